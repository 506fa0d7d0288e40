"""The client for asyncio; it does what `Client` does, and never blocks the event loop."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import TypeVar

import grpc

from . import health, protocol
from ._proto import health_pb2
from ._proto import open_inference_pb2 as pb
from .channel import OPTIONS, WITH_RETRIES, Tls, address
from .client import REQUEST_ID_KEY
from .errors import DeadlineExceeded, InvalidRequest, NotFound, ServingClientError, Unavailable, from_status
from .model import ModelMetadata, Prediction

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class AsyncClient:
    """Ask a served model for predictions from asyncio; make it inside the running loop. See `Client` for arguments."""

    def __init__(self, target: str, *, model: str | None = None, tls: Tls | None = None) -> None:
        self._model = protocol.default_model() if model is None else model
        self._channel = _open(target, tls, WITH_RETRIES)
        self._plain = _open(target, tls, OPTIONS)
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
        self._check = self._plain.unary_unary(
            health.CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        self._watch = self._plain.unary_stream(
            health.WATCH,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        self._known: ModelMetadata | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls in flight are cancelled."""
        await self._channel.close()
        await self._plain.close()

    async def predict(
        self,
        inputs: protocol.Inputs,
        *,
        timeout: float,
        outputs: Sequence[str] = (),
        version: str = "",
        request_id: str | None = None,
    ) -> Prediction:
        """Return the model's answer for one batch; see `Client.predict`."""
        deadline = protocol.Deadline(timeout)
        request_id = request_id or uuid.uuid4().hex
        metadata = self._known or await self.metadata(timeout=deadline.left())
        try:
            request = protocol.infer_request(metadata, inputs, outputs, version, request_id)
            return protocol.prediction(await _call(self._infer, request, deadline, request_id), request_id)
        except (InvalidRequest, NotFound):
            # The model may have changed since it was described: look again, and try once more if it has.
            fresh = await self.metadata(timeout=deadline.left())
            if fresh.same_signature(metadata):
                raise
            request = protocol.infer_request(fresh, inputs, outputs, version, request_id)
            return protocol.prediction(await _call(self._infer, request, deadline, request_id), request_id)

    async def metadata(self, *, timeout: float) -> ModelMetadata:
        """Return the description of the model: what to send, what comes back, units and digest."""
        request = pb.ModelMetadataRequest(name=self._model)
        response = await _call(self._describe, request, protocol.Deadline(timeout), uuid.uuid4().hex)
        self._known = protocol.model_metadata(response)
        return self._known

    async def health(self, *, timeout: float) -> str:
        """Return SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN.

        :raises Unavailable: no server answers
        """
        try:
            return health.status_name(await self._check(health.request(), timeout=timeout))
        except grpc.aio.AioRpcError as error:
            raise from_status(error.code(), error.details(), "") from None

    async def is_ready(self, *, timeout: float) -> bool:
        """Tell whether the server takes predictions now."""
        return await self.health(timeout=timeout) == health.SERVING

    async def watch_health(self, *, timeout: float) -> AsyncIterator[str]:
        """Give the health now and at every change, for `timeout` seconds."""
        try:
            async for response in self._watch(health.request(), timeout=timeout, wait_for_ready=True):
                yield health.status_name(response)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise from_status(error.code(), error.details(), "") from None

    async def wait_ready(self, *, timeout: float) -> None:
        """Return as soon as the server takes predictions.

        :raises DeadlineExceeded: it does not within `timeout` seconds
        """
        end = time.monotonic() + timeout
        last: str | ServingClientError = "no answer"
        while (left := end - time.monotonic()) > 0:
            try:
                async for last in self.watch_health(timeout=left):
                    if last == health.SERVING:
                        return
            except Unavailable as error:  # it went away while we watched; the next watch waits for its return
                last = error
        raise DeadlineExceeded(f"the server is not {health.SERVING} after {timeout} s: {last}.")


def _open(target: str, tls: Tls | None, options: tuple[tuple[str, int | str], ...]) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(address(target), options)
    return grpc.aio.secure_channel(address(target), tls.credentials(), options + tls.options())


async def _call(
    method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
    request: _Request,
    deadline: protocol.Deadline,
    request_id: str,
) -> _Response:
    try:
        return await method(request, timeout=deadline.left(), metadata=((REQUEST_ID_KEY, request_id),))
    except grpc.aio.AioRpcError as error:
        raise from_status(error.code(), error.details(), request_id) from None
