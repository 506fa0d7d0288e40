"""A span for each call, in programs that use OpenTelemetry; others import nothing of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Headers = tuple[tuple[str, str], ...]

_NONE: AbstractContextManager[Headers] = nullcontext(())


def span(method: str) -> AbstractContextManager[Headers]:
    """Return a span for a block, and the metadata that tell the server of it."""
    return _span(method) if "opentelemetry.trace" in sys.modules else _NONE


@contextmanager
def _span(method: str) -> Iterator[Headers]:
    from opentelemetry import propagate, trace

    tracer = trace.get_tracer("serving_client")
    with tracer.start_as_current_span(method, kind=trace.SpanKind.CLIENT, attributes={"rpc.system": "grpc"}):
        headers: dict[str, str] = {}
        propagate.inject(headers)
        yield tuple(headers.items())
