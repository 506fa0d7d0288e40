"""What a peer's program is asked for: its arguments."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.estimators import load
from benchmarks.peers.models import MODELS, Predict


@dataclass(frozen=True)
class Asked:
    """The arguments of a peer's program: what to serve, and the ports to listen on at 127.0.0.1."""

    model: str
    models: Path
    grpc_port: int
    http_port: int
    metrics_port: int

    @property
    def predict(self) -> Predict:
        """The model to serve."""
        return load(self.models, self.model)


def asked() -> Asked:
    """Read the arguments of this program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("models", type=Path)
    for port in ("grpc_port", "http_port", "metrics_port"):
        parser.add_argument(port, type=int)
    return Asked(**vars(parser.parse_args()))
