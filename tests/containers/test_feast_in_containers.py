"""A repo with Feast over Redis: its SDK in the server's container, its registry in a volume."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.stack import Stack, known_answers, needs_engine

pytestmark = pytest.mark.long

SLUG = "feast-test"
TWO = {"SCALE": "2"}  # what `make up SCALE=2` would write to .env
SERVICES = ("server", "feature-store", "materialize")
LOOK = """
import importlib.util, os
mounted = [name for name in ("/features/feast-registry.db", "/app/config/feature_repo/feature_store.redis.yaml")
           if os.access(name, os.W_OK)]
print([name for name in ("sklearn", "skl2onnx", "tools", "model") if importlib.util.find_spec(name)], mounted)
"""


@pytest.fixture(scope="module")
def stack(template: Path, module_path: Path) -> Iterator[Stack]:
    """Two replicas of one version, read through Feast."""
    needs_engine()
    running = Stack.generate(template, module_path / "feast", SLUG)
    try:
        started = running.compose("up", "--build", "--wait", **TWO)
        assert started.returncode == 0, started.stderr
        yield running
    finally:
        running.remove()


def test_every_container_is_powerless_and_the_server_only_reads_what_feast_knows(stack: Stack) -> None:
    stack.is_unprivileged(*SERVICES)
    (server, *_) = stack.containers("server")
    assert stack.inside(server, "python", "-c", LOOK) == "[] []"
    print(stack.command("image-size"))


def test_the_server_may_only_read_its_own_keys_of_redis(stack: Stack) -> None:
    stack.restricts_access_to_its_store("made-by-a-test-serving")  # Feast's keys end with its project's name


def test_a_thousand_rows_get_the_same_bits_and_flags_in_a_batch_as_in_a_call(stack: Stack) -> None:
    stack.scores_as_it_answers(flagged=True)


def test_without_redis_every_answer_through_feast_is_right_or_flagged(stack: Stack) -> None:
    (digest,) = re.findall(r"sha256=[0-9a-f]{64}", stack.repo.text("model.lock"))
    # The server's containers fetched it to a volume; here it is fetched for the load, which knows the right answers.
    python = str(stack.repo.path / ".venv" / "bin" / "python")
    fetch = [python, "-m", "serving.offline.model_version", "fetch"]
    subprocess.run(fetch, cwd=stack.repo.path, check=True, timeout=60)
    stack.survives_failures_of_its_store(known_answers(stack.repo, [digest]))
