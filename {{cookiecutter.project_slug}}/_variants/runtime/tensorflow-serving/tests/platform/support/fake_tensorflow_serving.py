"""A fake TensorFlow Serving: the real API over a real connection, with a function in place of the model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc

from serving.adapters.runtime.tensorflow_serving.proto import prediction_service_pb2 as pb
from serving.adapters.runtime.tensorflow_serving.runtime import TensorFlowServing
from serving.adapters.runtime.tensorflow_serving.tensors import from_proto, to_proto
from serving.domain.artifacts import Manifest
from serving.domain.tensors import Tensors, TensorSpec

VERSION = 7


class FakeTensorFlowServing:
    """Answer Predict for one version; a test sets what is to go wrong."""

    def __init__(
        self, manifest: Manifest, answer: Callable[[Tensors], Tensors], port: int = 0, host: str = "localhost"
    ) -> None:
        self.name = manifest.model
        self.version = VERSION
        self.answers_as = VERSION
        self.gate = threading.Event()
        self.gate.set()
        self.inputs: Sequence[TensorSpec] = [feature.spec for feature in manifest.features.model_inputs]
        self.outputs: Sequence[TensorSpec] = manifest.outputs
        self._answer = answer
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        handler = grpc.unary_unary_rpc_method_handler(
            self._predict, pb.PredictRequest.FromString, pb.PredictResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": handler})]
        )
        self.port = self._server.add_insecure_port(f"{host}:{port}")
        self._server.start()

    def runtime(self, patience: float = 0.3) -> TensorFlowServing:
        """Return a runtime that asks this server for the version."""
        target = f"localhost:{self.port}"
        return TensorFlowServing(target, self.name, VERSION, self.inputs, self.outputs, patience=patience)

    def stop(self) -> None:
        """End every call and free the port."""
        self.gate.set()
        self._server.stop(0).wait()

    def _predict(self, request: pb.PredictRequest, context: grpc.ServicerContext) -> pb.PredictResponse:
        if (request.model_spec.name, request.model_spec.version.value) != (self.name, self.version):
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")
        self.gate.wait()
        try:
            inputs = {spec.name: from_proto(request.inputs[spec.name], spec) for spec in self.inputs}
            answered = self._answer(inputs)
        except Exception as error:  # noqa: BLE001 - what TensorFlow Serving does with any failure of a model
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        spec = pb.ModelSpec(name=self.name, version=pb.Int64Value(value=self.answers_as))
        outputs = {
            output.name: to_proto(answered[output.name], output) for output in self.outputs if output.name in answered
        }
        return pb.PredictResponse(model_spec=spec, outputs=outputs)
