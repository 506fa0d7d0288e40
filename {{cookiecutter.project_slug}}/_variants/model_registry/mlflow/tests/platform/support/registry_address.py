"""Configure the address of the MLflow server in a test."""

from __future__ import annotations

import pytest

SCHEME = "mlflow"
CANARY = "a-secret-of-mlflow"


def point_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set MLflow's address to this local port; every secret contains CANARY."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:{CANARY}@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", CANARY)


def garble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the token by an invalid one."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", f"{CANARY}\nX-Other: \u20ac")
