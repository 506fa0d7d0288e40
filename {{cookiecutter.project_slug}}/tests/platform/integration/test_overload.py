from __future__ import annotations

import asyncio

import grpc

from serving.online.telemetry import Metrics
from tests.platform.support.artifacts import tiny
from tests.platform.support.fakes import FakeRuntime
from tests.platform.support.server import PATIENCE_S, serving
from tests.platform.support.services import answer_of, fake_service
from tests.platform.support.wire import SERVING, Wire, floats, request

RUNNING, QUEUED, CALLS = 2, 3, 20
BODY = request("tiny", {"base": [1.0], "value": [2.0]}).SerializeToString()


async def codes_of(wire: Wire, count: int) -> tuple[list[grpc.StatusCode], asyncio.Task[list[grpc.StatusCode]]]:
    """Start calls; return the codes of those that were refused at once, and a task for the codes of the rest."""
    calls = [wire.call("ModelInfer", BODY) for _ in range(count)]
    codes = [asyncio.create_task(call.code()) for call in calls]
    refused: list[grpc.StatusCode] = []
    for code in asyncio.as_completed(codes):
        refused.append(await code)
        if len(refused) == count - RUNNING - QUEUED:
            break

    async def rest() -> list[grpc.StatusCode]:
        all_codes = await asyncio.gather(*codes)
        return [code for code in all_codes if code is grpc.StatusCode.OK]

    return refused, asyncio.create_task(rest())


async def test_excess_calls_are_refused_at_once_but_health_probes_are_answered() -> None:
    runtime = FakeRuntime(answer_of(tiny()))
    runtime.gate = asyncio.Event()
    metrics = Metrics.create()
    service = fake_service(tiny(), runtime=runtime)
    async with serving(service, metrics=metrics, max_running=RUNNING, max_queued=QUEUED, grace=60.0) as wire:
        refused, rest = await codes_of(wire, CALLS)
        assert refused == [grpc.StatusCode.RESOURCE_EXHAUSTED] * (CALLS - RUNNING - QUEUED)
        assert metrics.registry.get_sample_value("serving_refused_total", {"reason": "queue_full"}) == len(refused)
        assert metrics.registry.get_sample_value("serving_queued") == QUEUED
        assert metrics.registry.get_sample_value("serving_in_flight") == RUNNING
        statuses = await asyncio.gather(*(wire.status(name) for name in ("", "tiny") for _ in range(50)))
        assert statuses == [SERVING] * 100
        code, text = await wire.refused("ModelInfer", BODY)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert text == "2 calls run and 3 wait, which is the limit; try again later."
        assert (await wire.metadata("tiny")).name == "tiny"
        runtime.gate.set()
        assert await rest == [grpc.StatusCode.OK] * (RUNNING + QUEUED)


async def test_the_server_recovers_from_an_overload() -> None:
    runtime = FakeRuntime(answer_of(tiny()))
    async with serving(fake_service(tiny(), runtime=runtime), max_running=1, max_queued=1) as wire:
        for _ in range(3):
            codes = await asyncio.gather(*(wire.call("ModelInfer", BODY).code() for _ in range(CALLS)))
            assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert floats(await wire.infer(request("tiny", {"base": [1.0], "value": [2.0]}))) == [3.0]


async def test_callers_that_give_up_release_their_slots() -> None:
    runtime = FakeRuntime(answer_of(tiny()))
    runtime.gate = asyncio.Event()
    metrics = Metrics.create()
    service = fake_service(tiny(), runtime=runtime)
    async with serving(service, metrics=metrics, max_running=1, max_queued=9) as wire:
        for _ in range(5):
            calls = [wire.call("ModelInfer", BODY) for _ in range(10)]
            before = runtime.calls
            async with asyncio.timeout(PATIENCE_S):
                while runtime.calls == before:
                    await wire.status()
            for call in calls:
                call.cancel()
            await asyncio.gather(*(call.code() for call in calls))
            async with asyncio.timeout(PATIENCE_S):
                while metrics.registry.get_sample_value("serving_in_flight"):
                    await wire.status()
        runtime.gate.set()
        assert floats(await wire.infer(request("tiny", {"base": [1.0], "value": [2.0]}))) == [3.0]


async def test_a_call_past_its_deadline_is_reported_by_the_server_itself() -> None:
    runtime = FakeRuntime(answer_of(tiny()))
    runtime.gate = asyncio.Event()
    service = fake_service(tiny(), runtime=runtime)
    async with serving(service, call_timeout=0.05) as wire:
        code, text = await wire.refused("ModelInfer", BODY)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "the model did not answer within 0.0" in text
