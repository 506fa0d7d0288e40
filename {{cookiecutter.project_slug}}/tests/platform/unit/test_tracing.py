from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serving.domain.deadline import Deadline
from serving.domain.references import Reference
from serving.domain.tensors import Tensors
from serving.online.tracing import Tracing, open_tracing
from tests.platform.support.artifacts import tiny
from tests.platform.support.fakes import FakeRuntime, FakeStore
from tests.platform.support.server import serving
from tests.platform.support.services import fake_service
from tests.platform.support.wire import request

STATIC = tiny(static=True)
SERVED = Reference("local", "tiny", "7", "sha256=00")
INFER = "inference.GRPCInferenceService/ModelInfer"
LONG = 60.0


@pytest.fixture
def sent() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(sent: InMemorySpanExporter) -> Iterator[Tracing]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(sent))
    tracing = Tracing(provider)
    yield tracing
    tracing.close()


def runtime() -> FakeRuntime:
    return FakeRuntime(lambda inputs: {"total": inputs["base"] + inputs["value"]})


def parents(spans: Sequence[ReadableSpan]) -> set[tuple[str, str]]:
    """Return the name of each span, and that of its parent."""
    names = {span.context.span_id: span.name for span in spans}
    return {(span.name, names[span.parent.span_id] if span.parent else "") for span in spans}


async def test_admission_store_and_model_are_below_the_call(tracing: Tracing, sent: InMemorySpanExporter) -> None:
    store, model = FakeStore({b"a": {"base": 1.0}}), tracing.runtime(runtime(), SERVED)
    service = fake_service(STATIC, store=tracing.store(store), runtime=model)
    async with serving(service, tracing=tracing) as wire:
        await wire.infer(request("tiny", {"key": [b"a"], "value": [2.0]}))
    spans = sent.get_finished_spans()
    assert parents(spans) == {(INFER, ""), ("admission", INFER), ("feature store", INFER), ("model", INFER)}
    (of_model,) = (span.attributes for span in spans if span.name == "model")
    assert of_model == {"serving.version": "7", "serving.digest": "sha256=00"}


async def test_calls_that_share_a_model_call_are_linked_to_it(tracing: Tracing, sent: InMemorySpanExporter) -> None:
    store, model = FakeStore({b"a": {"base": 1.0}}), runtime()
    model.concurrency, store.gate = 1, asyncio.Event()
    traced = fake_service(STATIC, store=tracing.store(store), runtime=tracing.runtime(model, SERVED), batching=True)
    service = replace(traced, join_batch=tracing.batch)

    async def call(name: str) -> None:
        inputs: Tensors = {"key": np.array([b"a"], object), "value": np.ones(1, np.float32)}
        with tracing.call(name, {}):
            await service.infer(inputs, [], Deadline(LONG))

    calls = [asyncio.ensure_future(call(name)) for name in ("first", "second", "third")]
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(*calls)
    spans = sent.get_finished_spans()
    assert parents(spans) == {
        *((name, "") for name in ("first", "second", "third", "batch")),
        *((name, above) for name in ("feature store", "model") for above in ("first", "batch")),
    }
    names = {span.context.span_id: span.name for span in spans}
    (batch,) = (span for span in spans if span.name == "batch")
    assert [names[link.context.span_id] for link in batch.links] == ["second", "third"]


async def test_a_call_that_waits_alone_keeps_its_trace(tracing: Tracing, sent: InMemorySpanExporter) -> None:
    store, model = FakeStore({b"a": {"base": 1.0}}), runtime()
    model.concurrency, store.gate = 1, asyncio.Event()
    service = fake_service(STATIC, store=tracing.store(store), runtime=tracing.runtime(model, SERVED), batching=True)

    async def call(name: str) -> None:
        inputs: Tensors = {"key": np.array([b"a"], object), "value": np.ones(1, np.float32)}
        with tracing.call(name, {}):
            await service.infer(inputs, [], Deadline(LONG))

    calls = [asyncio.ensure_future(call(name)) for name in ("first", "second")]
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(*calls)
    assert {("model", "first"), ("model", "second")} < parents(sent.get_finished_spans())


@pytest.mark.parametrize("environment", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_SERVICE_NAME": "shop"}])
def test_without_an_endpoint_there_is_no_tracing(environment: dict[str, str]) -> None:
    assert open_tracing(environment, "tiny") is None
