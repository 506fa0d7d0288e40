"""A development server: stands in for TensorFlow Serving's binary where that can't run.

It serves SavedModels with TensorFlow's own runtime behind the same gRPC API, in a process of its own. It looks for new
versions as TensorFlow Serving does, in <models>/<name>/<version>/. It is not for production: no batching, no warm-up,
no version labels.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before TensorFlow is imported: it logs to stderr, looks for a GPU, and rounds differently with oneDNN.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import grpc
import numpy as np

from serving.adapters.runtime.tensorflow_serving.proto import prediction_service_pb2 as pb

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_THREADS = 4
_POLL_S = 0.5
_GRACE_S = 5.0
_OPTIONS = [
    ("grpc.max_send_message_length", 256 << 20),
    ("grpc.max_receive_message_length", 256 << 20),
    ("grpc.so_reuseport", 0),  # else a second server on the port would get half of the calls
]


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
    if models.faults and not models.loaded:
        print(f"error: {next(iter(models.faults.values()))}", file=sys.stderr)
        return 1
    server = grpc.server(ThreadPoolExecutor(_THREADS), options=_OPTIONS)
    server.add_generic_rpc_handlers(handlers(models))
    try:
        server.add_insecure_port(options.address)
    except RuntimeError:
        print(f"error: can't listen on {options.address}; choose another port.", file=sys.stderr)
        return 1
    server.start()
    while not stop.wait(_POLL_S):
        models.look()
    server.stop(_GRACE_S).wait()
    return 0


def _wait_for_the_end_of_the_input(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


@dataclass(frozen=True)
class Version:
    """Hold one loaded version; its functions need the whole model to stay."""

    model: Any
    described: pb.SignatureDefMap

    @classmethod
    def load(cls, folder: Path) -> Version:
        """Read a SavedModel."""
        import tensorflow as tf
        from tensorflow.core.protobuf import saved_model_pb2

        model = tf.saved_model.load(str(folder))
        graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]
        described = pb.SignatureDefMap(
            signature_def={
                name: pb.SignatureDef.FromString(signature.SerializeToString())
                for name, signature in graph.signature_def.items()
            }
        )
        return cls(model, described)


class Models:
    """The loaded versions, by name and number; `faults` says why a version could not be loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.loaded: Mapping[tuple[str, int], Version] = {}
        self.faults: dict[tuple[str, int], str] = {}

    def look(self) -> None:
        """Load new versions, and drop those whose folder is gone."""
        found = {
            (path.parent.name, int(path.name)): path
            for path in self._folder.glob("*/*")
            if path.name.isdecimal() and path.is_dir()
        }
        self.faults = {key: fault for key, fault in self.faults.items() if key in found}
        loaded = {key: version for key, version in self.loaded.items() if key in found}
        for key in found.keys() - loaded.keys() - self.faults.keys():
            try:
                loaded[key] = Version.load(found[key])
            except Exception as error:  # noqa: BLE001 - TensorFlow raises its own and many others
                self.faults[key] = f"{found[key]}: {type(error).__name__}: {str(error)[:500]}"
                print(f"not loaded: {self.faults[key]}", file=sys.stderr, flush=True)
        self.loaded = loaded  # at once, since calls read it in other threads

    def versions(self, name: str) -> dict[int, Version]:
        """Return the versions of one model."""
        return {number: version for (model, number), version in self.loaded.items() if model == name}


def handlers(models: Models) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return the two services."""

    def predict(request: pb.PredictRequest, context: grpc.ServicerContext) -> pb.PredictResponse:
        number, version = known(request.model_spec, context)
        name = request.model_spec.signature_name or "serving_default"
        if name not in version.model.signatures:
            context.abort(_INVALID, f'Serving signature name: "{name}" not found in signature def')
        try:
            inputs = {key: _tensor(tensor) for key, tensor in request.inputs.items()}
            answered = version.model.signatures[name](**inputs)
        except Exception as error:  # noqa: BLE001 - TensorFlow raises its own and many others
            context.abort(_INVALID, f"{type(error).__name__}: {str(error)[:500]}")
        wanted = request.output_filter or sorted(answered)
        unknown = [key for key in wanted if key not in answered]
        if unknown:
            context.abort(_INVALID, f"output tensor alias not found in signature: {unknown[0]}")
        outputs = {key: _message(answered[key]) for key in wanted}
        return pb.PredictResponse(model_spec=_spec(request.model_spec.name, number, name), outputs=outputs)

    def metadata(request: pb.GetModelMetadataRequest, context: grpc.ServicerContext) -> pb.GetModelMetadataResponse:
        number, version = known(request.model_spec, context)
        packed = pb.Any(
            type_url="type.googleapis.com/tensorflow.serving.SignatureDefMap",
            value=version.described.SerializeToString(),
        )
        spec = _spec(request.model_spec.name, number, "")
        return pb.GetModelMetadataResponse(model_spec=spec, metadata={"signature_def": packed})

    def status(request: pb.GetModelStatusRequest, context: grpc.ServicerContext) -> pb.GetModelStatusResponse:
        number, _ = known(request.model_spec, context)
        numbers = [number] if request.model_spec.HasField("version") else models.versions(request.model_spec.name)
        states = [pb.ModelVersionStatus(version=each, state=pb.ModelVersionStatus.AVAILABLE) for each in numbers]
        return pb.GetModelStatusResponse(model_version_status=states)

    def known(wanted: pb.ModelSpec, context: grpc.ServicerContext) -> tuple[int, Version]:
        if wanted.version_label:  # TensorFlow Serving reads labels from its configuration; here is none
            context.abort(_INVALID, f"Unrecognized servable version label: {wanted.version_label}")
        versions = models.versions(wanted.name)
        number = wanted.version.value if wanted.HasField("version") else max(versions, default=0)
        if number not in versions:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted.name} {number}")
        return number, versions[number]

    return (
        _service(
            "PredictionService",
            Predict=(predict, pb.PredictRequest),
            GetModelMetadata=(metadata, pb.GetModelMetadataRequest),
        ),
        _service("ModelService", GetModelStatus=(status, pb.GetModelStatusRequest)),
    )


def _spec(name: str, number: int, signature: str) -> pb.ModelSpec:
    return pb.ModelSpec(name=name, version=pb.Int64Value(value=number), signature_name=signature)


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
