"""Serve a model with MLServer: its runtime for scikit-learn, and a class for images."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.arguments import asked
from benchmarks.peers.estimators import file_of, mean
from benchmarks.peers.models import IMAGE, NAME

_SKLEARN, _IMAGES = "mlserver_sklearn.SKLearnModel", "benchmarks.peers.mlserver.serve.Images"
_LARGEST_MESSAGE = 64 << 20


class Images(MLModel):  # type: ignore[misc]  # in its own environment
    """Answer images."""

    async def load(self) -> bool:
        """Nothing to load."""
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Call the model."""
        answers = mean(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("predict_proba", answers)])


if __name__ == "__main__":
    arguments = asked()
    ports = {name: getattr(arguments, name) for name in ("grpc_port", "http_port", "metrics_port")}
    limits = {"grpc_max_message_length": _LARGEST_MESSAGE}
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, **ports, **limits}
    model = {"name": NAME, "implementation": _IMAGES, "parameters": {}}
    if arguments.model != IMAGE:
        uri = str(file_of(arguments.models, arguments.model))
        model |= {"implementation": _SKLEARN, "parameters": {"uri": uri}}
    for name, content in (("settings.json", settings), ("model-settings.json", model)):
        Path(name).write_text(json.dumps(content), encoding="utf-8")
    program = Path(sys.executable).with_name("mlserver")
    os.execv(program, [str(program), "start", "."])  # noqa: S606 - a fixed list of words
