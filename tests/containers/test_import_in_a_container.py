"""A pickle is opened in a container: it sees and changes nothing of this machine, and an honest one is imported."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.stack import docker, needs_engine
from tests.support import Repo, generate, run

ROWS = "a,b\n" + "".join(f"{row},{row % 7}\n" for row in range(60))
MAKE = """
import csv, pickle, sklearn.linear_model
rows = [list(map(float, row)) for row in list(csv.reader(open("rows.csv")))[1:]]
pickle.dump(sklearn.linear_model.Ridge().fit(rows, [2 * a + b for a, b in rows]), open("honest.pkl", "wb"))
"""
# What it finds out is the text of its refusal: the class of what a pickle holds is named there.
LOOK = """
import os, socket
def can(what, *words):
    try:
        what(*words)
        return "1"
    except OSError:
        return "0"
found = [
    str(os.getuid()),
    can(socket.create_connection, ("1.1.1.1", 443), 2),
    can(open, "/given/rows.csv", "a"),
    can(open, "/app/src/serving/domain/errors.py", "a"),
    can(open, HERE),
    can(os.setuid, 0),
    str(int("TOKEN" in open("/proc/self/environ").read())),
]
result = type("found_" + "_".join(found), (), {"__module__": "found"})()
"""


@pytest.fixture(scope="module")
def repo(template: Path, module_path: Path) -> Iterator[Repo]:
    needs_engine()
    made = generate(template, module_path / "pickles", {"feature_store": "none", "model_registry": "local"})
    (made.path / "rows.csv").write_text(ROWS, encoding="utf-8")
    made.passes("versions")
    done = run([made.python, "-c", MAKE], cwd=made.path)
    assert done.returncode == 0, done.stderr
    yield made
    docker("image", "rm", "--force", *docker("images", "--quiet", f"{made.path.name}-import").split())


def imported(repo: Repo, *words: str) -> str:
    done = run(
        [repo.python, "tools/tasks.py", "versions", "import", "--json", *words, "--rows", "rows.csv"], cwd=repo.path
    )
    return str(json.loads(done.stdout[done.stdout.index("{") :])["reference"]) if done.returncode == 0 else done.stderr


@pytest.mark.long
def test_a_pickle_is_opened_in_a_container(repo: Repo) -> None:
    in_container = imported(repo, "honest.pkl")
    assert in_container.startswith("local:")
    assert in_container == imported(repo, "honest.pkl", "--trusted")

    class Looking:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            here = f"HERE = {str(repo.path / 'rows.csv')!r}"
            return eval, (f"(lambda space: (exec({here + LOOK!r}, space), space['result'])[1])({{}})",)

    (repo.path / "looking.pkl").write_bytes(pickle.dumps(Looking()))
    said = imported(repo, "looking.pkl")
    assert "error: looking.pkl: can't be imported: holds a found_65532_0_0_0_0_0_0, which is no estimator" in said
    assert docker("ps", "--all", "--quiet", "--filter", f"ancestor={repo.path.name}-import").split() == []
