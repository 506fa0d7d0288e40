"""Files are scored on Ray, on this machine and on a cluster of two nodes, in the environment that the repo makes."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import COMMAND_TIMEOUT_S, ROOT, Repo, generate
from tools.environment import Environment

pytestmark = pytest.mark.long

CLUSTER = ROOT / "tests" / "ray_cluster.py"
REFUSED_SOME = 3
# Ray listens on every interface, and runs what it is sent.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
# Two parts; each tenth row asks for an unknown patient, each thousandth is refused.
MAKE_ROWS = """
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from serving.offline import user_model

count = 800_000
data, features = user_model.dataset(), user_model.features()
row = np.arange(count)
keys = np.where(row % 10, np.array(data.entities, object)[row % len(data.entities)], "nobody")
columns = {f.name: data.columns[f.name][row % len(data.entities)].astype(float) for f in features.real_time}
columns[features.real_time[0].name][::1000] = np.nan
pq.write_table(pa.table({features.entity.name: keys, **columns}), "rows.parquet", row_group_size=20_000)
"""


def start(repo: Repo, output: str, *words: str, **variables: str) -> subprocess.Popen[str]:
    """Begin to score the rows."""
    given = os.environ | {"INPUT": "rows.parquet", "OUTPUT": output} | variables
    command = [sys.executable, "tools/tasks.py", "score", *words]
    return subprocess.Popen(
        command, cwd=repo.path, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str], code: int) -> str:
    """Wait for the end with an exit code; return what was printed where results or reasons go."""
    printed, errors = process.communicate(timeout=COMMAND_TIMEOUT_S)
    assert process.returncode == code, printed + errors
    return errors if code == 1 else printed[printed.index("{") :]


def results(repo: Repo, output: str) -> list[bytes]:
    """Return the output and the refused rows; nothing else must be left."""
    names = [output, f"{output}.rejected.csv"]
    assert sorted(path.name for path in repo.path.glob(f"{output}*")) == names
    return [(repo.path / name).read_bytes() for name in names]


@pytest.fixture(scope="module")
def repo(template: Path, module_path: Path) -> Repo:
    """A trained repo with rows, and what this process alone makes of them in `local.parquet`."""
    made = generate(template, module_path / "ray", {"feature_store": "sqlite"})
    for command in ("train", "features"):
        made.passes(command)
    subprocess.run([made.python, "-c", MAKE_ROWS], cwd=made.path, check=True, timeout=60)
    summary: dict[str, Any] = json.loads(ended(start(made, "local.parquet"), REFUSED_SOME))
    assert (summary["rows"], summary["rejected"]) == (799_200, 800)
    assert set(summary["defaulted"].values()) == {79_200}
    return made


@contextmanager
def cluster(repo: Repo) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run two nodes; give their address, and the process that kills one of them on demand."""
    python = Environment(repo.path / "build" / "ray" / ".venv").python
    pipe = subprocess.PIPE
    command, given = [str(python), str(CLUSTER)], os.environ | TOKEN
    with subprocess.Popen(command, env=given, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.stdin.close()
            process.wait(COMMAND_TIMEOUT_S)


def test_on_this_machine_ray_gives_the_same_bytes_and_a_run_goes_on_without_it(repo: Repo) -> None:
    refused = ended(start(repo, "here.parquet", "--max-rejected", "700", ENGINE="ray"), 1)
    assert "rows are refused so far, more than --max-rejected 700; here.parquet.rejected.csv names them." in refused
    assert json.loads(ended(start(repo, "here.parquet"), REFUSED_SOME))["resumed_rows"] > 500_000
    assert results(repo, "here.parquet") == results(repo, "local.parquet")


def test_two_nodes_give_the_same_bytes_even_if_one_is_killed_half_way(repo: Repo) -> None:
    with cluster(repo) as (address, nodes):
        ended(start(repo, "both.parquet", ENGINE="ray", RAY_ADDRESS=address, **TOKEN), REFUSED_SOME)
        disturbed = start(repo, "one.parquet", ENGINE="ray", RAY_ADDRESS=address, **TOKEN)
        part = repo.path / "one.parquet.work" / "part-000000.json"
        while not part.exists():
            assert disturbed.poll() is None
            time.sleep(0.01)
        print("kill", file=nodes.stdin, flush=True)
        assert nodes.stdout is not None
        assert nodes.stdout.readline() == "killed\n"
        ended(disturbed, REFUSED_SOME)
    assert results(repo, "both.parquet") == results(repo, "local.parquet")
    assert results(repo, "one.parquet") == results(repo, "local.parquet")


def test_a_failure_in_a_worker_is_the_sentence_of_this_process(repo: Repo) -> None:
    wanted = {"SERVING_UNKNOWN_ENTITY": "refuse", "SERVING_FEATURE_STORE": "sqlite:nowhere.db"}
    here, there = (ended(start(repo, "none.parquet", ENGINE=engine, **wanted), 1) for engine in ("", "ray"))
    assert here.splitlines()[-2] == there.splitlines()[-2]
    assert "the same command goes on after row 0" in here


def test_a_cluster_that_is_not_there_is_one_sentence(repo: Repo) -> None:
    refused = ended(start(repo, "none.parquet", ENGINE="ray", RAY_ADDRESS="127.0.0.1:1"), 1)
    assert refused.splitlines()[-2].startswith("error: RAY_ADDRESS='127.0.0.1:1': can't join a Ray cluster there (Conn")
