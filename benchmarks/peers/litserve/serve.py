"""Serve a model with LitServe."""

from typing import Any

import litserve
import numpy as np
from fastapi import Request

from benchmarks.peers.arguments import Asked, asked
from benchmarks.peers.models import Array


class Served(litserve.LitAPI):  # type: ignore[misc]  # in its own environment
    """Decode, predict, encode."""

    def __init__(self, arguments: Asked) -> None:
        super().__init__()
        self._arguments = arguments

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        self._predict = self._arguments.predict

    def decode_request(self, request: Request) -> Array:
        """Return the rows of a request; LitServe reads this annotation, and passes the parsed JSON."""
        return np.array(request["rows"], np.float32)

    def predict(self, rows: Array) -> Array:
        """Call the model."""
        return self._predict(rows)

    def encode_response(self, answers: Array) -> dict[str, Any]:
        """Return what becomes JSON."""
        return {"answers": answers.tolist()}


if __name__ == "__main__":
    arguments = asked()
    server = litserve.LitServer(Served(arguments), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=arguments.http_port, log_level="warning", generate_client_file=False)
