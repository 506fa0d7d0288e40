"""pygrpc-native's server as a grpc.aio.Server that this repo can drain: HTTP/2 runs outside the interpreter's lock.

docs/grpc-transport.md says what it can't do. Reflection goes to a grpcio server behind it; with tokens, so do methods
that do not exist.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import grpc
import pygrpc_native.aio

from serving.domain.errors import SettingsError
from serving.online.grpc.proto import open_inference_pb2 as pb

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

STOPPING = "the server stops; call another replica, or try again."
_AGE = "grpc.max_connection_age"
_RESERVED = "grpc-"
_LEAVING_S = 0.5


class NativeServer(pygrpc_native.aio.Server):
    """Serve like grpcio's server, on one port without TLS; connections have no maximum age."""

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]]) -> None:
        self._running = _Running()
        self._end: asyncio.Task[None] | None = None
        self._here: set[str] = set()
        super().__init__(
            interceptors=[_RefusesUnary(self._here), *interceptors] if interceptors else [],
            options=[(name, value) for name, value in options if not name.startswith(_AGE)],
        )

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Add handlers; those of our own protocol by method, since the others go to the server behind this one."""
        handlers = list(generic_rpc_handlers)
        super().add_generic_rpc_handlers(handlers)
        for handler in handlers:
            for service in pb.DESCRIPTOR.services_by_name.values():
                if isinstance(handler, grpc.ServiceRpcHandler) and handler.service_name() == service.full_name:
                    found = {method.name: handler.service(_Asked(method)) for method in service.methods}
                    methods = {name: method for name, method in found.items() if method is not None}
                    self.add_registered_method_handlers(service.full_name, methods)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, _Handler]) -> None:
        """Add the handlers of a service."""
        counted = {name: self._running.counted(handler) for name, handler in method_handlers.items()}
        super().add_registered_method_handlers(service_name, counted)
        here = [name for name, handler in method_handlers.items() if not handler.request_streaming]
        self._here.update(f"/{service_name}/{name}" for name in here)

    async def start(self) -> None:
        """Listen.

        :raises SettingsError: there is no folder for the socket of the server behind this one
        """
        try:
            await super().start()
        except (OSError, RuntimeError) as error:
            raise SettingsError(
                f"TMPDIR: the native transport can't make a socket in the folder for temporary files ({error}); "
                "set it to a folder with a short path that can be written."
            ) from None

    async def stop(self, grace: float | None) -> None:
        """Refuse new calls, wait for those that run, end those that still do; may be cancelled and called again.

        The inherited stop must run once and to its end: after a cancelled one, the next would never end.
        """
        self._running.closed = True
        if grace:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._running.none.wait(), grace)
                # The inherited stop cuts connections: of answers given right before it, up to a third were lost.
                await asyncio.sleep(_LEAVING_S)
        if self._end is None:
            self._end = asyncio.ensure_future(super().stop(0))
        await asyncio.shield(self._end)


class _Running:
    """Count the calls that run; once closed, refuse new ones."""

    def __init__(self) -> None:
        self.closed = False
        self.none = asyncio.Event()
        self.none.set()
        self._count = 0

    def counted(self, handler: _Handler) -> _Handler:
        """Return the handler, counted; streams are not, since the drain ends them itself."""
        method: Callable[[Any, Any], Awaitable[Any]] | None = handler.unary_unary
        if method is None:
            return handler

        async def call(request: Any, context: Any) -> Any:
            if self.closed:
                await context.abort(grpc.StatusCode.UNAVAILABLE, STOPPING)
            self._count += 1
            self.none.clear()
            try:
                return await method(request, context)
            except grpc.aio.AbortError:
                # A call that ends with a reserved key would never be answered.
                sent = context.trailing_metadata()
                context.set_trailing_metadata([pair for pair in sent if not pair[0].startswith(_RESERVED)])
                raise
            finally:
                self._count -= 1
                if not self._count:
                    self.none.set()

        return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)


class _Asked(grpc.HandlerCallDetails):
    """Ask a generic handler for one of its methods."""

    def __init__(self, method: Any) -> None:
        self.method = f"/{method.containing_service.full_name}/{method.name}"
        self.invocation_metadata = ()


class _RefusesUnary(grpc.aio.ServerInterceptor):
    """Let interceptors refuse these methods with a handler that reads no request: it is read already."""

    def __init__(self, methods: set[str]) -> None:
        self._methods = methods

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Return the handler of a call."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.stream_unary is None or handler_call_details.method not in self._methods:
            return handler
        return grpc.unary_unary_rpc_method_handler(handler.stream_unary)
