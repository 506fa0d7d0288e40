"""How a test says where the MLflow server is."""

from __future__ import annotations

import pytest

SCHEME = "mlflow"
CANARY = "a-secret-of-mlflow"


def point_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let MLflow be at this port of this machine; all that is secret holds CANARY."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:{CANARY}@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", CANARY)


def garble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the token one that no server can have given."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", f"{CANARY}\nX-Other: \u20ac")
