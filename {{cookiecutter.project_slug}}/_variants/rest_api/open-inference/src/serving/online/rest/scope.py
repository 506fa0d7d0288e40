"""What surrounds every call: who may call, the request id, metrics, and errors as problem details."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.domain.errors import ServingError
from serving.online.credentials import Tokens
from serving.online.refusals import INTERNAL_TEXT, REQUEST_ID_KEY, safe_id
from serving.online.rest.connection import Caller
from serving.online.rest.status import PROBLEM_JSON, Refused, problem, refusal_of
from serving.online.telemetry import SECONDS, Metrics, RequestId, request_id

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

NO_TOKEN = "this server needs a valid token; send the header `Authorization: Bearer <token>`."  # noqa: S105
NO_NAME = "the client certificate has none of the names that this server lets in; ask its operators to add yours."

_LEFT = 499  # what web servers log for a caller that left


class CallScope:
    """Give each call its scope."""

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self._started = Counter("rest_server_started", "REST calls started.", ["method"], registry=registry)
        self._handled = Counter(
            "rest_server_handled", "Finished REST calls, by status code.", ["method", "code"], registry=registry
        )
        self._seconds = Histogram(
            "rest_server_handling_seconds",
            "Duration of a REST call in seconds.",
            ["method"],
            registry=registry,
            buckets=SECONDS,
        )

    def wrap(self, name: str, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint, called in its scope; `name` is its label in the metrics."""
        started_calls = self._started.labels(name)
        seconds = self._seconds.labels(name)

        async def call(request: Request) -> Response:
            current = RequestId(safe_id(request.headers.get(REQUEST_ID_KEY, "")))
            token = request_id.set(current)
            started_calls.inc()
            start = time.perf_counter()
            status = _LEFT
            try:
                response = await self._answer(name, endpoint, request, current)
                status = response.status_code
            finally:
                seconds.observe(time.perf_counter() - start)
                self._handled.labels(name, status).inc()
                request_id.reset(token)
            if current.given:
                response.headers[REQUEST_ID_KEY] = current.given
            return response

        return call

    async def _answer(self, name: str, endpoint: Endpoint, request: Request, current: RequestId) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=_LEFT)
        except ServingError as error:
            refused = refusal_of(error)
            log.info("%s %d: %s", name, refused.status, error.logged, exc_info=error.__cause__)
        except Refused as error:
            refused = error
            log.info("%s %d: %s", name, refused.status, refused.text)
        except Exception:
            refused = Refused(HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL_TEXT)
            log.exception("%s failed", name)
        return respond(refused, str(current))


def respond(refused: Refused, current: str = "") -> Response:
    """Return a refusal as problem details."""
    content = problem(refused.status, refused.text, current)
    headers = {**refused.headers, **({REQUEST_ID_KEY: current} if current else {})}
    return Response(content, refused.status, headers, PROBLEM_JSON)


class Access:
    """Let in who has one of the tokens and one of the names; None and no names let everybody in."""

    def __init__(
        self, app: ASGIApp, tokens: Tokens | None, names: frozenset[str], observe: Callable[[str], None]
    ) -> None:
        """Guard an app; `observe` gets the reason of each refusal."""
        self._app = app
        self._tokens = tokens
        self._names = names
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call, or refuse it before its body is read."""
        caller: Caller = scope["state"]["caller"]
        caller.task = asyncio.current_task()
        try:
            app = self._refusal(scope, caller) or self._app
            await app(scope, receive, send)
        except asyncio.CancelledError:
            pass  # the caller has left, or the server ends: uvicorn would log it as a fault
        finally:
            caller.task = None

    def _refusal(self, scope: Scope, caller: Caller) -> Response | None:
        if self._tokens is not None and not self._tokens.accept(_token(scope["headers"])):
            self._observe("token")
            return respond(Refused(HTTPStatus.UNAUTHORIZED, NO_TOKEN, {"www-authenticate": "Bearer"}))
        if self._names and not self._names & caller.names:
            self._observe("name")
            return respond(Refused(HTTPStatus.FORBIDDEN, NO_NAME))
        return None


def _token(headers: Any) -> bytes:
    """Return the token that a call brings, empty if it brings none."""
    for key, value in headers:
        if key == b"authorization":
            scheme, _, token = value.partition(b" ")
            return bytes(token.strip()) if scheme.lower() == b"bearer" else b""
    return b""
