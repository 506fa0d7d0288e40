"""Traces of OpenTelemetry, off until OTEL_EXPORTER_OTLP_ENDPOINT is set.

While they are off, the server imports nothing of OpenTelemetry, and no call passes through this module. While they are
on, store and runtime are wrapped when the server starts; `serving.online.grpc.tracing` does the same to the transport.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import Context
from typing import TYPE_CHECKING

from serving.domain.features import Feature
from serving.domain.ports import Column, FeatureStore, ModelRuntime
from serving.domain.references import Reference
from serving.domain.tensors import Tensors

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FLUSH_MS = 2_000


class Tracing:
    """Make spans and send them to a collector, in a thread."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("serving")
        self._propagator = TraceContextTextMapPropagator()

    def span(self, name: str, attributes: Mapping[str, str | int] | None = None) -> AbstractContextManager[object]:
        """Return a span below the current one, for a block."""
        return self._tracer.start_as_current_span(name, attributes=attributes)

    def call(self, name: str, metadata: Mapping[str, str]) -> AbstractContextManager[object]:
        """Return the span of a call, below that of its caller if the metadata have one."""
        from opentelemetry.trace import SpanKind

        return self._tracer.start_as_current_span(
            name,
            context=self._propagator.extract(metadata),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc"},
            record_exception=False,
        )

    @contextmanager
    def batch(self, calls: Sequence[Context]) -> Iterator[None]:
        """Span the work for several calls; it is linked to each of them, since it can't be below them all."""
        from opentelemetry.trace import Link, get_current_span

        links = [Link(call.run(get_current_span).get_span_context()) for call in calls]
        with self._tracer.start_as_current_span("batch", links=links, attributes={"serving.calls": len(calls)}):
            yield

    def store(self, store: FeatureStore) -> FeatureStore:
        """Return a store whose reads are spans."""
        return _TracedStore(store, self)

    def runtime(self, runtime: ModelRuntime, served: Reference) -> ModelRuntime:
        """Return a runtime whose calls are spans."""
        return _TracedRuntime(runtime, self, served)

    def close(self) -> None:
        """Send what is left, within two seconds."""
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()


class _TracedStore:
    def __init__(self, store: FeatureStore, tracing: Tracing) -> None:
        self._store = store
        self._tracing = tracing
        self.supplies = store.supplies
        self.close = store.close

    async def read(
        self, entities: Sequence[bytes], features: Sequence[Feature], *, timeout: float
    ) -> Mapping[str, Column]:
        with self._tracing.span("feature store", {"serving.rows": len(entities)}):
            return await self._store.read(entities, features, timeout=timeout)


class _TracedRuntime:
    def __init__(self, runtime: ModelRuntime, tracing: Tracing, served: Reference) -> None:
        self._runtime = runtime
        self._tracing = tracing
        self._attributes = {"serving.version": served.version, "serving.digest": served.digest}
        self.concurrency = runtime.concurrency
        self.warm_up = runtime.warm_up
        self.close = runtime.close

    async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
        with self._tracing.span("model", self._attributes):
            return await self._runtime.predict(inputs, timeout=timeout)


def open_tracing(environment: Mapping[str, str], service: str) -> Tracing | None:
    """Return tracing if an endpoint is set; OpenTelemetry reads the details from its own variables.

    `service` names the service where OTEL_SERVICE_NAME does not.
    """
    if not any(environment.get(name) for name in _ENDPOINTS):
        return None
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    for handler in logging.getLogger().handlers:
        handler.addFilter(_add_trace_id)
    return Tracing(provider)


def _add_trace_id(record: logging.LogRecord) -> bool:
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    record.trace_id = format_trace_id(context.trace_id) if context.is_valid else ""
    return True
