"""Serve a model with BentoML: `bentoml serve` opens this file again, with the arguments in the environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bentoml
import numpy as np

from benchmarks.peers.arguments import asked
from benchmarks.peers.estimators import load

_MODEL, _MODELS = "PEERS_MODEL", "PEERS_MODELS"


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Served:
    """Answer rows."""

    def __init__(self) -> None:
        self._predict = load(Path(os.environ[_MODELS]), os.environ[_MODEL])

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, rows: np.ndarray) -> np.ndarray:  # BentoML reads the annotations
        """Call the model."""
        return self._predict(rows.astype(np.float32))


if __name__ == "__main__":
    arguments = asked()
    os.environ |= {_MODEL: arguments.model, _MODELS: str(arguments.models), "BENTOML_DO_NOT_TRACK": "true"}
    words = ("-m", "bentoml", "serve", "benchmarks.peers.bentoml.serve:Served")
    os.execv(sys.executable, [sys.executable, *words, "--host", "127.0.0.1", "--port", str(arguments.http_port)])  # noqa: S606 - a fixed list of words
