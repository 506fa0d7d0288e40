"""What surrounds every call: request id, metrics, and errors as status codes."""

from __future__ import annotations

import asyncio
import logging
import time

import grpc

from serving.domain.errors import ServingError
from serving.online.grpc.servicer import Context, Method
from serving.online.grpc.status import PUSHBACK, status_of
from serving.online.refusals import INTERNAL_TEXT, NO_RETRY, REQUEST_ID_KEY, safe_id
from serving.online.telemetry import Metrics, RequestId, request_id

log = logging.getLogger(__name__)

_FROM_THE_START = (
    grpc.StatusCode.OK,
    # An alert compares two readings, so a series that begins with its first failure hides that one.
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
)


class CallScope:
    """Give each call its scope.

    Methods are wrapped once, when they are registered: an interceptor would look them up in each call.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def wrap(self, name: str, method: Method) -> Method:
        """Return the method, called in its scope; `name` is its label in the metrics."""
        started_calls = self._metrics.started.labels(name)
        seconds = self._metrics.seconds.labels(name)
        handled = {code: self._metrics.handled.labels(name, code.name) for code in _FROM_THE_START}

        async def call(body: bytes, context: Context) -> bytes:
            current = RequestId(_sent_id(context))
            token = request_id.set(current)
            if current.given:
                context.set_trailing_metadata(((REQUEST_ID_KEY, current.given),))
            started_calls.inc()
            start = time.perf_counter()
            code, text = grpc.StatusCode.OK, ""
            try:
                return await method(body, context)
            except ServingError as error:
                code, text = status_of(error)
                _answer_with_id(context, current, no_retry=isinstance(error, NO_RETRY))
                log.info("%s %s: %s", name, code.name, error.logged, exc_info=error.__cause__)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except Exception:
                code, text = grpc.StatusCode.INTERNAL, INTERNAL_TEXT
                _answer_with_id(context, current)
                log.exception("%s failed", name)
            finally:
                seconds.observe(time.perf_counter() - start)
                if code not in handled:
                    handled[code] = self._metrics.handled.labels(name, code.name)
                handled[code].inc()
                request_id.reset(token)
            return await context.abort(code, text)

        return call


def _answer_with_id(context: Context, current: RequestId, *, no_retry: bool = False) -> None:
    own = (REQUEST_ID_KEY, str(current))
    context.set_trailing_metadata((own, PUSHBACK) if no_retry else (own,))


def _sent_id(context: Context) -> str:
    """Return the caller's request id; empty if it sent none that is safe to log."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and (given := safe_id(value)):
            return given
    return ""
