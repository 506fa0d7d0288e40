"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc

from . import protocol
from ._proto import open_inference_pb2 as pb
from .channel import OPTIONS, WITH_RETRIES, Tls, checked_target, connect
from .deadline import Deadline
from .errors import InvalidRequest, NotFound, ServingClientError, closed, from_status
from .health import SERVING, Health
from .model import ModelMetadata, Prediction
from .tracing import span

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Client:
    """Get predictions from a served model; thread-safe, and best kept open.

    `target` is host:port; calls are balanced over all addresses of the name. `model` is the model's name, by default
    that of this client's service. With `tls`, the connection is encrypted.

    Instead of a target, the client takes an existing `channel`. Options, retries and credentials are then those of the
    channel, and closing the client leaves the channel open.

    :raises InvalidRequest: the target is no address, not exactly one of target and channel is given, or a file of `tls`
        can't be used
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        channel: grpc.Channel | None = None,
        model: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        address = checked_target(target, channel, tls)
        self._model = protocol.default_model() if model is None else model
        self._owns_channels = channel is None
        self._closed = False
        self._channel = connect(address, tls, WITH_RETRIES) if channel is None else channel
        self._infer = self._channel.unary_unary(*protocol.INFER)
        self._describe = self._channel.unary_unary(*protocol.METADATA)
        self._health = Health(connect(address, tls, OPTIONS) if channel is None else channel)
        self._known: ModelMetadata | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the client: it refuses further calls. Its own connections are closed and calls in flight cancelled."""
        self._closed = True
        if self._owns_channels:
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
        seconds and covers everything, including retries. `outputs` selects outputs, `version` requires a version,
        `request_id` appears in the server's log.

        :raises InvalidRequest: an input is missing, unknown or does not fit
        :raises Cancelled: the client is closed
        :raises ServingClientError: see `serving_client.errors` for the others
        """
        self._check_open()
        deadline = Deadline(timeout)
        question = protocol.InferRequest(inputs, outputs, version, protocol.checked_request_id(request_id))
        known = self._known
        if known is None:
            return self._ask(question, self._metadata(deadline), deadline)
        try:
            return self._ask(question, known, deadline)
        except (InvalidRequest, NotFound) as refusal:
            fresh = self._changed(known, deadline)
            if fresh is None:
                raise refusal from None
        return self._ask(question, fresh, deadline)

    def metadata(self, *, timeout: float) -> ModelMetadata:
        """Return the model's metadata: inputs, outputs, units and digest."""
        self._check_open()
        return self._metadata(Deadline(timeout))

    def health(self, *, timeout: float) -> str:
        """Return SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN.

        :raises Unavailable: no server answers
        """
        self._check_open()
        return self._health.check(timeout=timeout)

    def is_ready(self, *, timeout: float) -> bool:
        """Return whether the server is ready.

        :raises Unavailable: no server answers
        """
        return self.health(timeout=timeout) == SERVING

    def watch_health(self, *, timeout: float) -> Iterator[str]:
        """Yield the health status now and at every change, for `timeout` seconds."""
        self._check_open()
        return self._health.watch(timeout=timeout)

    def wait_ready(self, *, timeout: float) -> None:
        """Wait until the server is ready.

        :raises DeadlineExceeded: it is not ready within `timeout` seconds
        """
        self._check_open()
        self._health.wait_ready(timeout=timeout)

    def _check_open(self) -> None:
        if self._closed:
            raise closed()

    def _ask(self, question: protocol.InferRequest, metadata: ModelMetadata, deadline: Deadline) -> Prediction:
        request = question.request(metadata)
        return question.prediction(self._call(self._infer, request, deadline, question.request_id, protocol.INFER[0]))

    def _metadata(self, deadline: Deadline) -> ModelMetadata:
        request = pb.ModelMetadataRequest(name=self._model)
        response = self._call(
            self._describe, request, deadline, protocol.checked_request_id(None), protocol.METADATA[0]
        )
        self._known = protocol.model_metadata(response)
        return self._known

    def _changed(self, known: ModelMetadata, deadline: Deadline) -> ModelMetadata | None:
        """Return the model's metadata if its signature has changed since the cached one, else None."""
        try:
            fresh = self._metadata(deadline)
        except ServingClientError:
            return None  # report the original refusal, not this failure
        return None if fresh.same_signature(known) else fresh

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        deadline: Deadline,
        request_id: str,
        name: str,
    ) -> _Response:
        try:
            with span(name) as headers:
                metadata = ((protocol.REQUEST_ID_KEY, request_id), *headers)
                return method(request, timeout=deadline.left(), metadata=metadata)
        except grpc.RpcError as error:
            raise from_status(error.code(), error.details(), request_id) from None
        except ValueError:
            if self._closed:  # by another thread, after this call was let in
                raise closed(request_id) from None
            raise
