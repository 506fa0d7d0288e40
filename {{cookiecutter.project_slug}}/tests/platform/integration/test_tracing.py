"""Traces: client, server, admission, store and model in one tree; nothing of OpenTelemetry without an endpoint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.platform.support.artifacts import tiny
from tests.platform.support.collector import Collector
from tests.platform.support.server import ServerProcess
from tests.platform.support.wire import Wire, request
from tests.platform.support.workspace import THIS_REPO, environment

INFER = "inference.GRPCInferenceService/ModelInfer"
GOOD = request("tiny", {"base": [1.0], "value": [2.0]})
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = ("traceparent", f"00-{TRACE}-{SPAN}-01")

# A program that uses OpenTelemetry, and one that does not.
CALLER = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
from serving_client import Client
with Client(sys.argv[1], model="tiny") as client:
    client.predict({"base": [1.0], "value": [2.0]}, timeout=30)
provider.shutdown()
"""
PLAIN = """
import sys
from serving_client import Client
with Client(sys.argv[1], model="tiny") as client:
    client.predict({"base": [1.0], "value": [2.0]}, timeout=30)
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""


def ran(program: str, target: str, **variables: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, target],
        env=environment(THIS_REPO, **variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def parents(spans: list[tuple[str, Span]]) -> dict[str, str]:
    """Return the name of each span's parent in the trace of the prediction."""
    (trace,) = {span.trace_id for _, span in spans if span.name == "model"}
    mine = {span.span_id: span for _, span in spans if span.trace_id == trace}
    return {
        f"{service} {span.name}": mine[span.parent_span_id].name if span.parent_span_id else ""
        for service, span in spans
        if span.span_id in mine
    }


def test_one_call_is_one_tree_from_the_client_to_store_and_model(folder: Path) -> None:
    tiny().lay_out(folder)
    with Collector() as collector:
        on = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with ServerProcess(folder, **on) as server:
            ran(CALLER, server.target, **on, OTEL_SERVICE_NAME="shop")
            names = {"model", INFER, f"/{INFER}"}
            spans = collector.wait_for(lambda spans: names <= {span.name for _, span in spans})
    assert parents(spans) == {
        f"shop /{INFER}": "",
        f"tiny {INFER}": f"/{INFER}",
        "tiny admission": INFER,
        "tiny model": INFER,
    }


async def test_the_callers_trace_is_in_the_log_line_of_a_refusal(folder: Path) -> None:
    tiny().lay_out(folder)
    with Collector() as collector:
        on = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with ServerProcess(folder, **on) as server:
            async with Wire(server.target) as wire:
                metadata = [PARENT, ("x-request-id", "order-7")]
                with pytest.raises(Exception, match="INVALID_ARGUMENT"):
                    await wire.call("ModelInfer", b"", metadata=metadata)
            record = server.wait_for(lambda record: record.get("request_id") == "order-7")
            spans = collector.wait_for(lambda spans: INFER in {span.name for _, span in spans})
    assert record["trace_id"] == TRACE
    (span,) = [span for _, span in spans if span.name == INFER]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)


async def test_a_collector_that_is_not_there_costs_no_call_and_no_end(folder: Path) -> None:
    tiny().lay_out(folder)
    with ServerProcess(folder, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as server:
        async with Wire(server.target) as wire:
            await wire.infer(GOOD)
        assert server.stop() == 0


@pytest.mark.parametrize("endpoint", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}])
def test_without_an_endpoint_no_exporter_is_imported(folder: Path, endpoint: dict[str, str]) -> None:
    """A package of that name, found first, would end the process. Redis' client imports the rest of OpenTelemetry."""
    tiny().lay_out(folder)
    exporter = folder / "opentelemetry" / "exporter"
    exporter.mkdir(parents=True)
    (exporter / "__init__.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    with ServerProcess(folder, **endpoint) as server:
        ran(PLAIN, server.target)
