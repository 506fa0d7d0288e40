"""Call TensorFlow Serving directly, without TensorFlow: for models that have no server of ours in front.

with PredictionClient("tensorflow-serving:8500") as client:
    answer = client.predict("digits", {"image": images}, timeout=1.0)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import numpy.typing as npt

from ._proto import prediction_service_pb2 as pb
from .channel import OPTIONS, SERVICE_CONFIG, Tls, connect
from .deadline import Deadline
from .errors import InvalidRequest, ServerFault, closed, from_status
from .tensorflow_tensors import Array, from_proto, to_proto, type_name

SIGNATURE = "serving_default"

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

# As for our own servers, but that TensorFlow Serving answers no health checks.
_CONFIG = {name: value for name, value in SERVICE_CONFIG.items() if name != "healthCheckConfig"}
_OPTIONS = (*OPTIONS, ("grpc.enable_retries", 1), ("grpc.service_config", json.dumps(_CONFIG)))


@dataclass(frozen=True)
class Answer:
    """Hold the outputs by name, and the version that gave them."""

    outputs: Mapping[str, Array]
    model: str
    version: int


@dataclass(frozen=True)
class Tensor:
    """Describe one tensor of a signature: TensorFlow's name of its type, and its shape.

    A size of -1 is any size; no shape at all (None) means any number of dimensions.
    """

    datatype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """Describe the inputs and outputs of one signature."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


class PredictionClient:
    """Get predictions from TensorFlow Serving; thread-safe, and best kept open.

    `target` is host:port, usually port 8500. Calls are balanced over all addresses of the name, and repeated if a
    server was away. With `tls`, the connection is encrypted.
    """

    def __init__(self, target: str, *, tls: Tls | None = None) -> None:
        self._channel = connect(target, tls, _OPTIONS)
        self._closed = False
        service = "/tensorflow.serving."
        self._predict = self._channel.unary_unary(
            f"{service}PredictionService/Predict", pb.PredictRequest.SerializeToString, pb.PredictResponse.FromString
        )
        self._describe = self._channel.unary_unary(
            f"{service}PredictionService/GetModelMetadata",
            pb.GetModelMetadataRequest.SerializeToString,
            pb.GetModelMetadataResponse.FromString,
        )
        self._status = self._channel.unary_unary(
            f"{service}ModelService/GetModelStatus",
            pb.GetModelStatusRequest.SerializeToString,
            pb.GetModelStatusResponse.FromString,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and cancel calls in flight."""
        self._closed = True
        self._channel.close()

    def predict(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        timeout: float,
        version: int | None = None,
        label: str = "",
        signature: str = SIGNATURE,
        outputs: Sequence[str] = (),
    ) -> Answer:
        """Return the model's answer for one batch; `timeout` is in seconds and covers retries.

        `version` or `label` asks for one version, by default the newest answers. `outputs` selects outputs.

        :raises InvalidRequest: an input does not fit, or both version and label are given
        :raises NotFound: there is no such model, version or label
        """
        request = pb.PredictRequest(
            model_spec=_spec(model, version, label, signature),
            inputs={name: to_proto(name, values) for name, values in inputs.items()},
            output_filter=list(outputs),
        )
        response = self._call(self._predict, request, timeout)
        answered = {name: from_proto(name, tensor) for name, tensor in response.outputs.items()}
        given = response.model_spec
        if given.name != model or (version is not None and given.version.value != version):
            asked = f"{model!a}" if version is None else f"version {version} of {model!a}"
            raise ServerFault(f"version {given.version.value} of {given.name!a} answered, asked was {asked}.")
        return Answer(answered, given.name, given.version.value)

    def metadata(self, model: str, *, timeout: float, version: int | None = None) -> Mapping[str, Signature]:
        """Return the model's signatures by name."""
        request = pb.GetModelMetadataRequest(model_spec=_spec(model, version, "", ""), metadata_field=["signature_def"])
        response = self._call(self._describe, request, timeout)
        signatures = pb.SignatureDefMap.FromString(response.metadata["signature_def"].value)
        return {
            name: Signature(_tensors(signature.inputs), _tensors(signature.outputs))
            for name, signature in signatures.signature_def.items()
        }

    def status(self, model: str, *, timeout: float) -> Mapping[int, str]:
        """Return the state of each version: START, LOADING, AVAILABLE, UNLOADING or END."""
        response = self._call(self._status, pb.GetModelStatusRequest(model_spec=_spec(model, None, "", "")), timeout)
        return {known.version: pb.ModelVersionStatus.State.Name(known.state) for known in response.model_version_status}

    def _call(
        self, method: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request, timeout: float
    ) -> _Response:
        if self._closed:
            raise closed()
        try:
            return method(request, timeout=Deadline(timeout).left())
        except grpc.RpcError as error:
            raise from_status(error.code(), error.details()) from None
        except ValueError:
            if self._closed:  # by another thread, after this call was let in
                raise closed() from None
            raise


def _spec(model: str, version: int | None, label: str, signature: str) -> pb.ModelSpec:
    if version is not None and label:
        raise InvalidRequest(f"version {version} and label {label!a} are both given; give one of them.")
    spec = pb.ModelSpec(name=model, signature_name=signature)
    if version is not None:
        spec.version.value = version
    elif label:
        spec.version_label = label
    return spec


def _tensors(declared: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: Tensor(
            type_name(tensor.dtype),
            None if tensor.tensor_shape.unknown_rank else tuple(dim.size for dim in tensor.tensor_shape.dim),
        )
        for name, tensor in declared.items()
    }


__all__ = ["Answer", "PredictionClient", "Signature", "Tensor"]
