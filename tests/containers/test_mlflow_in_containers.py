"""A repo that keeps its versions in MLflow, with the MLflow server that its own Compose file brings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.stack import Stack, docker, needs_engine
from tests.support import generate

pytestmark = pytest.mark.long

SLUG = "mlflow-test"
ADDRESSES = {
    "COMPOSE_PROFILES": "mlflow",
    "MLFLOW_PORT": "5099",
    "MLFLOW_TRACKING_URI": "http://localhost:5099",
    "MLFLOW_INSIDE_URI": "http://mlflow:5000",
    "MODEL_REGISTRY": "mlflow",
    "OVERLAP": "0",
}
LOOK = """
import importlib.util, os
known = [name for name in ("mlflow", "scripts") if importlib.util.find_spec(name)]
print(known, [name for name in os.environ if "MLFLOW" in name])
"""


@pytest.fixture(scope="module")
def stack(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server with a version from the folder, and MLflow beside it."""
    needs_engine()
    answers = {"project_slug": SLUG, "model_registry": "mlflow", "feature_store": "none"}
    running = Stack(generate(template, tmp_path_factory.mktemp("mlflow"), answers), SLUG)
    running.verb("train")
    try:
        running.verb("up", **ADDRESSES)
        yield running
    finally:
        running.verb("down", **ADDRESSES)
        docker("volume", "prune", "--force", "--filter", f"label=com.docker.compose.project={SLUG}")


def test_a_version_in_mlflow_is_deployed_and_the_server_knows_nothing_of_mlflow(stack: Stack) -> None:
    train = stack.repo.path / "model" / "train.py"
    train.write_text(train.read_text(encoding="utf-8").replace("SEED = 7", "SEED = 8"), encoding="utf-8")
    stack.verb("train", **ADDRESSES)
    assert f"mlflow:{SLUG}/1#sha256=" in stack.repo.text("model.lock")
    stack.verb("deploy", **ADDRESSES)
    (server,) = stack.containers("server")
    assert stack.inside(server, "python", "-c", LOOK) == "[] []"
    (mlflow,) = stack.containers("mlflow")
    assert stack.inside(mlflow, "id", "-u") == "65532"
    assert "Read-only file system" in stack.inside(mlflow, "touch", "/mark")


def test_with_mlflow_away_the_last_verified_version_is_deployed_again(stack: Stack) -> None:
    (mlflow,) = stack.containers("mlflow")
    docker("stop", mlflow)
    try:
        stack.verb("deploy", MODEL_REGISTRY="mlflow", OVERLAP="0")
        (server,) = stack.containers("server")
        other = "0" * 64
        lock = stack.repo.text("model.lock")
        (stack.repo.path / "model.lock").write_text(f"mlflow:{SLUG}/1#sha256={other}\n", encoding="utf-8")
        refusal = stack.refused("deploy", **ADDRESSES)
        (stack.repo.path / "model.lock").write_text(lock, encoding="utf-8")
        assert "MLflow at mlflow:5000: gave no" in refusal
        assert "Traceback" not in refusal
        assert stack.containers("server") == [server]
    finally:
        docker("start", mlflow)
