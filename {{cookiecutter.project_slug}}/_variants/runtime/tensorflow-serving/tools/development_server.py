"""A development server: stands in for TensorFlow Serving's binary where that can't run.

It serves SavedModels with TensorFlow's own runtime behind the same gRPC API, in a process of its own. It looks for new
versions as TensorFlow Serving does, in <models>/<name>/<version>/. It is not for production: no batching, no warm-up.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Before TensorFlow is imported: it logs to stderr, looks for a GPU, and rounds differently with oneDNN.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import grpc
import numpy as np

from serving.adapters.runtime.tensorflow_serving.proto import prediction_service_pb2 as pb

_THREADS = 4
_POLL_S = 0.5
_GRACE_S = 5.0
_LARGEST_MESSAGE = 256 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or the end of the input."""
    parser = argparse.ArgumentParser(prog="python -m tools.development_server", description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder of <name>/<version>/")
    parser.add_argument("--address", required=True, help="host:port to listen on")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_wait_for_the_end_of_the_input, args=[stop], daemon=True).start()
    models = Models(options.models)
    models.look()
    message_options = [(f"grpc.max_{way}_message_length", _LARGEST_MESSAGE) for way in ("send", "receive")]
    server = grpc.server(ThreadPoolExecutor(_THREADS), options=message_options)
    server.add_generic_rpc_handlers(handlers(models))
    if not server.add_insecure_port(options.address):
        print(f"error: {options.address} can't be listened on.", file=sys.stderr)
        return 1
    server.start()
    while not stop.wait(_POLL_S):
        models.look()
    server.stop(_GRACE_S).wait()
    return 0


def _wait_for_the_end_of_the_input(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


class Models:
    """The loaded versions: signatures by name and version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[tuple[str, int], Any] = {}

    def look(self) -> None:
        """Load new versions, and drop those whose folder is gone."""
        import tensorflow as tf

        found = {
            (path.parent.name, int(path.name)): path
            for path in self._folder.glob("*/*")
            if path.name.isdecimal() and path.is_dir()
        }
        for key in self._loaded.keys() - found.keys():
            del self._loaded[key]
        for key in found.keys() - self._loaded.keys():
            self._loaded[key] = tf.saved_model.load(str(found[key]))

    def version(self, wanted: pb.ModelSpec) -> tuple[int, Any] | None:
        """Return the version that a request names, or the newest."""
        versions = {number: model for (name, number), model in self._loaded.items() if name == wanted.name}
        number = wanted.version.value if wanted.HasField("version") else max(versions, default=0)
        return (number, versions[number]) if number in versions else None


def handlers(models: Models) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return the two services."""

    def predict(request: pb.PredictRequest, context: grpc.ServicerContext) -> pb.PredictResponse:
        number, model = _known(request.model_spec, context)
        function = model.signatures[request.model_spec.signature_name or "serving_default"]
        try:
            answered = function(**{name: _tensor(tensor) for name, tensor in request.inputs.items()})
        except Exception as error:  # noqa: BLE001 - TensorFlow raises its own and many others
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{type(error).__name__}: {str(error)[:500]}")
        wanted = request.output_filter or sorted(answered)
        spec = pb.ModelSpec(
            name=request.model_spec.name, version=pb.Int64Value(value=number), signature_name="serving_default"
        )
        return pb.PredictResponse(model_spec=spec, outputs={name: _message(answered[name]) for name in wanted})

    def status(request: pb.GetModelStatusRequest, context: grpc.ServicerContext) -> pb.GetModelStatusResponse:
        number, _ = _known(request.model_spec, context)
        state = pb.ModelVersionStatus(version=number, state=pb.ModelVersionStatus.AVAILABLE)
        return pb.GetModelStatusResponse(model_version_status=[state])

    def _known(wanted: pb.ModelSpec, context: grpc.ServicerContext) -> tuple[int, Any]:
        found = models.version(wanted)
        if found is None:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted.name} {wanted.version.value}"
            )
        return found

    return (
        _service("PredictionService", Predict=(predict, pb.PredictRequest)),
        _service("ModelService", GetModelStatus=(status, pb.GetModelStatusRequest)),
    )


def _service(name: str, **methods: tuple[Callable[..., Any], Any]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        f"tensorflow.serving.{name}",
        {
            method: grpc.unary_unary_rpc_method_handler(
                work,
                request_deserializer=kind.FromString,
                response_serializer=lambda answer: answer.SerializeToString(),
            )
            for method, (work, kind) in methods.items()
        },
    )


def _tensor(message: pb.TensorProto) -> Any:
    """Return TensorFlow's own reading of the bytes of a tensor."""
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    return tf.constant(tf.make_ndarray(tensor_pb2.TensorProto.FromString(message.SerializeToString())))


def _message(tensor: Any) -> pb.TensorProto:
    import tensorflow as tf

    return pb.TensorProto.FromString(tf.make_tensor_proto(np.asarray(tensor)).SerializeToString())


if __name__ == "__main__":
    sys.exit(main())
