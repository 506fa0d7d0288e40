"""Spans of the transport: one for each call, one for its wait in front of admission control."""

from __future__ import annotations

from collections.abc import Callable

from serving.online.admission import Admission, Call, Limits
from serving.online.grpc.servicer import SERVICE, Context, Method
from serving.online.tracing import Tracing

Wrap = Callable[[str, Method], Method]


class TracedAdmission(Admission):
    """Admission control whose decision is a span."""

    def __init__(self, limits: Limits, observe_refusal: Callable[[str], None], tracing: Tracing) -> None:
        super().__init__(limits, observe_refusal)
        self._tracing = tracing

    async def enter(self, call: Call) -> None:
        """Let a call in, once a slot is free."""
        with self._tracing.span("admission", {"serving.request_bytes": call.size}):
            await super().enter(call)


def traced(wrap: Wrap, tracing: Tracing) -> Wrap:
    """Return a function that also calls the method in a span, below that of its caller."""

    def outer(name: str, method: Method) -> Method:
        inner, span = wrap(name, method), f"{SERVICE}/{name}"

        async def call(body: bytes, context: Context) -> bytes:
            metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
            with tracing.call(span, metadata):
                return await inner(body, context)

        return call

    return outer
