"""A collector of traces: receives spans as OpenTelemetry's exporters send them over gRPC."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATIENCE_S = 60.0


class Collector(TraceServiceServicer):  # type: ignore[misc] # generated code has no types
    """Keep every span, with the name of its service."""

    def __init__(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(1))
        add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._changed = threading.Condition()
        self._spans: list[tuple[str, Span]] = []

    def __enter__(self) -> Collector:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None)

    def Export(self, request: ExportTraceServiceRequest, _context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        """Take spans in."""
        with self._changed:
            for sent in request.resource_spans:
                (service,) = (
                    pair.value.string_value for pair in sent.resource.attributes if pair.key == "service.name"
                )
                self._spans += [(service, span) for scope in sent.scope_spans for span in scope.spans]
            self._changed.notify_all()
        return ExportTraceServiceResponse()

    def wait_for(self, enough: Callable[[list[tuple[str, Span]]], bool]) -> list[tuple[str, Span]]:
        """Wait until the spans are enough; return all."""
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self._spans), PATIENCE_S), [s.name for _, s in self._spans]
            return list(self._spans)
