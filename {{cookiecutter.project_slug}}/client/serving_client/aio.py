"""The asyncio client: like `Client`, without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar

import grpc

from . import health, protocol
from ._proto import open_inference_pb2 as pb
from .channel import OPTIONS, WITH_RETRIES, Tls, checked_target, connect_aio
from .deadline import Deadline
from .errors import Cancelled, InvalidRequest, NotFound, ServingClientError, Unavailable, closed, from_status
from .model import ModelMetadata, Prediction
from .tracing import span

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class AsyncClient:
    """Get predictions from a served model in asyncio; create it inside the running loop. See `Client` for arguments."""

    def __init__(
        self,
        target: str | None = None,
        *,
        channel: grpc.aio.Channel | None = None,
        model: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        address = checked_target(target, channel, tls)
        self._model = protocol.default_model() if model is None else model
        self._owns_channels = channel is None
        self._closed = False
        self._channel = connect_aio(address, tls, WITH_RETRIES) if channel is None else channel
        self._plain = connect_aio(address, tls, OPTIONS) if channel is None else channel
        self._infer = self._channel.unary_unary(*protocol.INFER)
        self._describe = self._channel.unary_unary(*protocol.METADATA)
        self._check = self._plain.unary_unary(*health.CHECK)
        self._watch = self._plain.unary_stream(*health.WATCH)
        self._known: ModelMetadata | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the client; see `Client.close`."""
        self._closed = True
        if self._owns_channels:
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
        self._check_open()
        deadline = Deadline(timeout)
        question = protocol.InferRequest(inputs, outputs, version, protocol.checked_request_id(request_id))
        known = self._known
        if known is None:
            return await self._ask(question, await self._metadata(deadline), deadline)
        try:
            return await self._ask(question, known, deadline)
        except (InvalidRequest, NotFound) as refusal:
            fresh = await self._changed(known, deadline)
            if fresh is None:
                raise refusal from None
        return await self._ask(question, fresh, deadline)

    async def metadata(self, *, timeout: float) -> ModelMetadata:
        """Return the model's metadata: inputs, outputs, units and digest."""
        self._check_open()
        return await self._metadata(Deadline(timeout))

    async def health(self, *, timeout: float) -> str:
        """Return SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN.

        :raises Unavailable: no server answers
        """
        self._check_open()
        try:
            return health.status_name(await self._check(health.REQUEST, timeout=Deadline(timeout).left()))
        except grpc.aio.AioRpcError as error:
            return health.check_failed(error.code(), error.details())

    async def is_ready(self, *, timeout: float) -> bool:
        """Return whether the server is ready.

        :raises Unavailable: no server answers
        """
        return await self.health(timeout=timeout) == health.SERVING

    async def watch_health(self, *, timeout: float) -> AsyncGenerator[str, None]:
        """Yield the health status now and at every change, for `timeout` seconds."""
        self._check_open()
        call = self._watch(health.REQUEST, timeout=Deadline(timeout).left(), wait_for_ready=True)
        try:
            async for response in call:
                yield health.status_name(response)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise from_status(error.code(), error.details()) from None
        finally:
            call.cancel()

    async def wait_ready(self, *, timeout: float) -> None:
        """Wait until the server is ready.

        :raises DeadlineExceeded: it is not ready within `timeout` seconds
        """
        self._check_open()
        deadline = Deadline(timeout)
        last: str | ServingClientError = "nothing."
        while not deadline.passed():
            try:
                async with aclosing(self.watch_health(timeout=deadline.left())) as statuses:
                    async for last in statuses:
                        if last == health.SERVING:
                            return
            except Unavailable as error:  # it became unavailable during the watch; the next watch waits for its return
                last = error
            await asyncio.sleep(min(health.PAUSE_S, deadline.left()))
        raise health.not_ready(timeout, last)

    def _check_open(self) -> None:
        if self._closed:
            raise closed()

    async def _ask(self, question: protocol.InferRequest, metadata: ModelMetadata, deadline: Deadline) -> Prediction:
        request = question.request(metadata)
        return question.prediction(await _call(self._infer, request, deadline, question.request_id, protocol.INFER[0]))

    async def _metadata(self, deadline: Deadline) -> ModelMetadata:
        request = pb.ModelMetadataRequest(name=self._model)
        response = await _call(
            self._describe, request, deadline, protocol.checked_request_id(None), protocol.METADATA[0]
        )
        self._known = protocol.model_metadata(response)
        return self._known

    async def _changed(self, known: ModelMetadata, deadline: Deadline) -> ModelMetadata | None:
        """Return the model's metadata if its signature has changed since the cached one, else None."""
        try:
            fresh = await self._metadata(deadline)
        except ServingClientError:
            return None  # report the original refusal, not this failure
        return None if fresh.same_signature(known) else fresh


async def _call(
    method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
    request: _Request,
    deadline: Deadline,
    request_id: str,
    name: str,
) -> _Response:
    try:
        with span(name) as headers:
            metadata = ((protocol.REQUEST_ID_KEY, request_id), *headers)
            return await method(request, timeout=deadline.left(), metadata=metadata)
    except grpc.aio.AioRpcError as error:
        raise from_status(error.code(), error.details(), request_id) from None
    except grpc.aio.UsageError:  # closed by another task, after this call was let in
        raise closed(request_id) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # The task was not cancelled: gRPC raises this when the channel is closed during a call.
        raise Cancelled("the client was closed during the call.", code="CANCELLED", request_id=request_id) from None
