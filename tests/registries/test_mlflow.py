"""The MLflow registry of a generated repo, against a real server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from local_extensions import ROOT_FOLDER
from scripts.environment import Environment
from tests.registries.mlflow_server import mlflow_server
from tests.support import ROOT, Repo, run

pytestmark = pytest.mark.long


def interpreter() -> Path:
    """Make an environment with a generated repo's packages and the whole of MLflow, server included."""
    base = ROOT / ROOT_FOLDER
    server = base / "_variants" / "model_registry" / "mlflow" / "mlflow-server" / "requirements" / "server.txt"
    locks = [server, *(path for path in (base / "requirements").glob("*.txt") if path.stem != "import")]
    folder = ROOT / "build" / "registries"
    folder.mkdir(parents=True, exist_ok=True)
    return Environment(folder).ensure(locks)


def test_the_registry_keeps_its_contract_on_a_real_server(generated: Callable[..., Repo], tmp_path: Path) -> None:
    repo, python = generated(model_registry="mlflow", feature_store="none"), interpreter()
    with mlflow_server(python, tmp_path) as uri:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "EVERY_TROUBLE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        tests = ["tests/registries/mlflow_contract.py", "tests/integration/test_commands_away.py"]
        command = [str(python), "-m", "pytest", "-q", *tests]
        done = run(command, cwd=repo.path, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
