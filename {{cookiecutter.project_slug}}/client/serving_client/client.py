"""The blocking client."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TypeVar

import grpc

from . import protocol
from ._proto import open_inference_pb2 as pb
from .channel import WITH_RETRIES, Tls, address
from .errors import InvalidRequest, NotFound, from_status
from .health import SERVING, Health
from .model import ModelMetadata, Prediction

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

REQUEST_ID_KEY = "x-request-id"


class Client:
    """Ask a served model for predictions; safe to share between threads, and best kept open.

    `target` is host:port; a name with several addresses is balanced over all of them. `model` is the name of the
    model, that of this client's own service if left out. With `tls`, the connection is encrypted.
    """

    def __init__(self, target: str, *, model: str | None = None, tls: Tls | None = None) -> None:
        self._model = protocol.default_model() if model is None else model
        options = WITH_RETRIES + (tls.options() if tls else ())
        self._channel = (
            grpc.secure_channel(address(target), tls.credentials(), options)
            if tls
            else grpc.insecure_channel(address(target), options)
        )
        self._infer = self._channel.unary_unary(
            protocol.INFER,
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        self._describe = self._channel.unary_unary(
            protocol.METADATA,
            request_serializer=pb.ModelMetadataRequest.SerializeToString,
            response_deserializer=pb.ModelMetadataResponse.FromString,
        )
        self._health = Health(target, tls=tls)
        self._known: ModelMetadata | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; calls in flight are cancelled."""
        self._channel.close()
        self._health.close()

    def predict(
        self,
        inputs: protocol.Inputs,
        *,
        timeout: float,
        outputs: Sequence[str] = (),
        version: str = "",
        request_id: str | None = None,
    ) -> Prediction:
        """Return the model's answer for one batch.

        `inputs` has an array or list per input, one value per row, as `metadata` describes them. `timeout` is in
        seconds and covers retries. `outputs` chooses some outputs, `version` insists on a version, `request_id` is
        what the server's log has.

        :raises InvalidRequest: an input is missing, unknown or does not fit
        :raises ServingClientError: see `serving_client.errors` for the others
        """
        deadline = protocol.Deadline(timeout)
        request_id = request_id or uuid.uuid4().hex
        metadata = self._known or self.metadata(timeout=deadline.left())
        try:
            request = protocol.infer_request(metadata, inputs, outputs, version, request_id)
            return protocol.prediction(_call(self._infer, request, deadline, request_id), request_id)
        except (InvalidRequest, NotFound):
            # The model may have changed since it was described: look again, and try once more if it has.
            fresh = self.metadata(timeout=deadline.left())
            if fresh.same_signature(metadata):
                raise
            request = protocol.infer_request(fresh, inputs, outputs, version, request_id)
            return protocol.prediction(_call(self._infer, request, deadline, request_id), request_id)

    def metadata(self, *, timeout: float) -> ModelMetadata:
        """Return the description of the model: what to send, what comes back, units and digest."""
        request = pb.ModelMetadataRequest(name=self._model)
        response = _call(self._describe, request, protocol.Deadline(timeout), uuid.uuid4().hex)
        self._known = protocol.model_metadata(response)
        return self._known

    def health(self, *, timeout: float) -> str:
        """Return SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN.

        :raises Unavailable: no server answers
        """
        return self._health.check(timeout=timeout)

    def is_ready(self, *, timeout: float) -> bool:
        """Tell whether the server takes predictions now."""
        return self.health(timeout=timeout) == SERVING

    def watch_health(self, *, timeout: float) -> Iterator[str]:
        """Give the health now and at every change, for `timeout` seconds."""
        return self._health.watch(timeout=timeout)

    def wait_ready(self, *, timeout: float) -> None:
        """Return as soon as the server takes predictions.

        :raises DeadlineExceeded: it does not within `timeout` seconds
        """
        self._health.wait_ready(timeout=timeout)


def _call(
    method: grpc.UnaryUnaryMultiCallable[_Request, _Response],
    request: _Request,
    deadline: protocol.Deadline,
    request_id: str,
) -> _Response:
    try:
        return method(request, timeout=deadline.left(), metadata=((REQUEST_ID_KEY, request_id),))
    except grpc.RpcError as error:
        raise from_status(error.code(), error.details(), request_id) from None
