"""The MLflow registry of a generated repo, against a real server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.registries.mlflow_server import mlflow_server
from tests.support import generate, run

pytestmark = pytest.mark.long


def test_the_registry_keeps_its_contract_on_a_real_server(template: Path, tmp_path: Path) -> None:
    repo = generate(template, tmp_path / "out", {"model_registry": "mlflow", "feature_store": "none"})
    repo.passes("setup")
    with mlflow_server(tmp_path) as uri:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
        contract = "tests/platform/registries/mlflow_contract.py"
        done = run([repo.python, "-m", "pytest", "-q", contract], cwd=repo.path, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
