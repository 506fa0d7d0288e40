"""Serve a model with KServe's Python server."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.logging import logger

from benchmarks.peers.arguments import asked
from benchmarks.peers.models import NAME


class Served(Model):  # type: ignore[misc]  # in its own environment
    """Answer requests of the Open Inference Protocol."""

    def __init__(self, name: str, predict: Any) -> None:
        super().__init__(name)
        self._predict = predict
        self.ready = True

    async def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        """Call the model."""
        answers = self._predict(payload.inputs[0].as_numpy()).astype(np.float32)
        output = InferOutput("probabilities", list(answers.shape), "FP32")
        output.set_data_from_numpy(answers, binary_data=payload.from_grpc)
        return InferResponse(payload.id or str(uuid.uuid4()), self.name, [output])


if __name__ == "__main__":
    arguments = asked()
    server = ModelServer(
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        workers=1,
        access_log_format=None,
        enable_latency_logging=False,
    )
    logger.setLevel("WARNING")  # it logs every call
    server.start([Served(NAME, arguments.predict)])
