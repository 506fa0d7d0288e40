"""Interceptors around every call: request id, metrics, and errors as status codes."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc

from serving.domain.errors import ServingError
from serving.online.grpc.servicer import SERVICE, Context, Method
from serving.online.grpc.status import INTERNAL_TEXT, NO_RETRY, PUSHBACK, status_of
from serving.online.telemetry import Metrics, request_id

log = logging.getLogger(__name__)

REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class CallScope(grpc.aio.ServerInterceptor):
    """Give each call its scope; calls to other services (health, reflection) pass unchanged."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of a call, in its scope."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if service != SERVICE or handler is None or handler.unary_unary is None:
            return handler
        if method not in self._handlers:
            scoped = self._scoped(method, cast("Method", handler.unary_unary))
            self._handlers[method] = grpc.unary_unary_rpc_method_handler(scoped)
        return self._handlers[method]

    def _scoped(self, name: str, method: Method) -> Method:
        started_calls = self._metrics.started.labels(name)
        seconds = self._metrics.seconds.labels(name)

        async def call(body: bytes, context: Context) -> bytes:
            token = request_id.set(_request_id(context))
            context.set_trailing_metadata(((REQUEST_ID_KEY, request_id.get()),))
            started_calls.inc()
            start = time.perf_counter()
            code, text = grpc.StatusCode.OK, ""
            try:
                return await method(body, context)
            except ServingError as error:
                code, text = status_of(error)
                if isinstance(error, NO_RETRY):
                    context.set_trailing_metadata(((REQUEST_ID_KEY, request_id.get()), PUSHBACK))
                log.info("%s %s: %s", name, code.name, error.logged, exc_info=error.__cause__)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except Exception:
                code, text = grpc.StatusCode.INTERNAL, INTERNAL_TEXT
                log.exception("%s failed", name)
            finally:
                seconds.observe(time.perf_counter() - start)
                self._metrics.handled.labels(name, code.name).inc()
                request_id.reset(token)
            return await context.abort(code, text)

        return call


def _request_id(context: Context) -> str:
    """Return the caller's request id, or a new one if it sent none that is safe to log."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return uuid.uuid4().hex
