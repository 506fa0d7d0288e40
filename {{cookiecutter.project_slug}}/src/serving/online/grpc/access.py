"""Who may call: every method of every service asks here first."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from serving.online.credentials import Tokens

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

NO_TOKEN = "this server needs a valid token; send the metadata `authorization: Bearer <token>`."  # noqa: S105
NO_NAME = "the client certificate has none of the names that this server lets in; ask its operators to add yours."


class Access(grpc.aio.ServerInterceptor):
    """Refuse calls without a valid token or an allowed name; None and no names let everybody in."""

    def __init__(
        self, tokens: Tokens | None, names: frozenset[str], observe: Callable[[str], None] = lambda _: None
    ) -> None:
        """Let in who has one of the tokens and one of the names; `observe` gets the reason of each refusal."""
        self._tokens = tokens
        self._names = names
        self._observe = observe

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Return the handler of a call, or one that refuses it before it reads the request."""
        if self._tokens is not None and not self._tokens.accept(_token(handler_call_details)):
            self._observe("token")
            return grpc.stream_unary_rpc_method_handler(_refuse)
        handler = await continuation(handler_call_details)
        return self._named(handler) if handler is not None and self._names else handler

    def _named(self, handler: _Handler) -> _Handler:
        """Return the handler behind a check of the certificate's names, which are known only once the call runs."""
        inner: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        async def call(request: Any, context: Any) -> Any:
            await self._check(context)
            return await inner(request, context)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._check(context)
            async for response in inner(request, context):
                yield response

        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        guarded = stream if inspect.isasyncgenfunction(inner) else call
        made: _Handler = make(guarded, handler.request_deserializer, handler.response_serializer)
        return made

    async def _check(self, context: Any) -> None:
        if not self._names & _names(context.auth_context()):
            self._observe("name")
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, NO_NAME)


async def _refuse(_requests: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, NO_TOKEN)


def _token(details: grpc.HandlerCallDetails) -> bytes:
    """Return the token that a call brings, empty if it brings none."""
    for key, value in details.invocation_metadata or ():
        if key == "authorization":
            scheme, _, token = (value.encode() if isinstance(value, str) else value).partition(b" ")
            return token.strip() if scheme.lower() == b"bearer" else b""
    return b""


def _names(found: dict[str, list[bytes]]) -> frozenset[str]:
    """Return a certificate's names: the alternative ones, or else the common one, as for server names."""
    names = found.get("x509_subject_alternative_name") or found.get("x509_common_name") or []
    return frozenset(name.decode("utf-8", "replace") for name in names)
