from __future__ import annotations

import asyncio

import numpy as np
import pytest

from serving.domain.deadline import waited_for_outage
from serving.domain.errors import DeadlineExceeded, ModelFailed
from serving.domain.tensors import Tensors
from serving.online.model_queue import ModelQueue
from tests.platform.support.fakes import FakeRuntime

LONG = 60.0
ONE = {"x": np.ones(1, np.float32)}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Unending(FakeRuntime):
    """Go on after the deadline, like a model that can't be ended, until `gate` is set."""

    async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
        self.calls += 1
        assert self.gate is not None
        await self.gate.wait()
        raise DeadlineExceeded("too late.")


def queue_of(runtime: FakeRuntime, concurrency: int = 1) -> tuple[ModelQueue, list[float], Clock]:
    runtime.concurrency = concurrency
    observed: list[float] = []
    clock = Clock()
    return ModelQueue(runtime, observed.append, clock=clock), observed, clock


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_calls_run_than_the_model_works_on() -> None:
    runtime = FakeRuntime(dict)
    runtime.gate = asyncio.Event()
    queue, _, _ = queue_of(runtime, 2)
    calls = [asyncio.create_task(queue.predict(ONE, timeout=LONG)) for _ in range(5)]
    await settle()
    assert runtime.calls == 2
    runtime.gate.set()
    assert len(await asyncio.gather(*calls)) == 5


async def test_the_time_of_the_model_is_told_without_the_wait() -> None:
    runtime = FakeRuntime(dict)
    runtime.gate = asyncio.Event()
    queue, observed, clock = queue_of(runtime)
    first, second = (asyncio.create_task(queue.predict(ONE, timeout=LONG)) for _ in range(2))
    await settle()
    clock.now = 3.0
    assert queue.longest() == 3.0
    runtime.gate.set()
    assert (await first)[1] == 3.0
    assert (await second)[1] == 0.0
    assert observed == [3.0, 0.0]
    assert queue.longest() == 0.0


async def test_waiting_for_a_model_in_another_process_is_no_work_of_the_model() -> None:
    clock = Clock()

    class Away(FakeRuntime):
        async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
            clock.now += 2.5
            waited_for_outage(2.0)
            return await super().predict(inputs, timeout=timeout)

    queue = ModelQueue(Away(dict), lambda _: None, clock=clock)
    assert [(await queue.predict(ONE, timeout=LONG))[1] for _ in range(2)] == [0.5, 0.5]


async def test_a_call_that_never_gets_its_turn_reaches_no_model() -> None:
    runtime = FakeRuntime(dict)
    runtime.gate = asyncio.Event()
    queue, _, _ = queue_of(runtime)
    first = asyncio.create_task(queue.predict(ONE, timeout=LONG))
    await settle()
    for timeout in (0.01, -1.0):
        with pytest.raises(DeadlineExceeded, match="passed before the model was called"):
            await queue.predict(ONE, timeout=timeout)
    assert runtime.calls == 1
    runtime.gate.set()
    await first


async def test_a_deadline_that_has_passed_already_reaches_no_model_and_gives_its_turn_back() -> None:
    runtime = FakeRuntime(dict)
    queue, _, _ = queue_of(runtime)
    with pytest.raises(DeadlineExceeded):
        await queue.predict(ONE, timeout=-1.0)
    assert runtime.calls == 0
    await queue.predict(ONE, timeout=LONG)


async def test_a_turn_is_kept_until_the_work_has_really_ended() -> None:
    runtime = Unending(dict)
    runtime.gate = asyncio.Event()
    queue, _, clock = queue_of(runtime)
    unending = asyncio.create_task(queue.predict(ONE, timeout=0.001))
    await settle()
    with pytest.raises(DeadlineExceeded, match="passed before the model was called"):
        await queue.predict(ONE, timeout=0.01)
    clock.now = 7.0
    assert (runtime.calls, queue.longest()) == (1, 7.0)
    runtime.gate.set()
    with pytest.raises(DeadlineExceeded, match="too late"):
        await unending


async def test_a_failed_call_gives_its_turn_back() -> None:
    runtime = FakeRuntime(dict)
    runtime.fault = ModelFailed("no.")
    queue, observed, _ = queue_of(runtime)
    for _ in range(3):
        with pytest.raises(ModelFailed):
            await queue.predict(ONE, timeout=LONG)
    assert observed == [0.0] * 3
