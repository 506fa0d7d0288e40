from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from serving.domain.deadline import Deadline
from serving.domain.errors import DeadlineExceeded, FeatureStoreUnavailable, InvalidRequest, ModelFailed, NotReady
from serving.domain.tensors import Tensors
from serving.online.batching import Batcher, worthwhile
from serving.online.telemetry import RequestId, request_id
from serving.prediction.pipeline import Answer

LONG = 60.0
BAD = -1.0


class Model:
    """Double each value; wait at the gate, fail on demand, and record the rows of every call."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.began = asyncio.Semaphore(0)
        self.batches: list[list[float]] = []
        self.failure: Exception | None = None
        self.ended = 0
        self.ids: list[object] = []

    async def run(self, inputs: Tensors, rows: int, deadline: Deadline) -> Answer:
        values = inputs["x"].tolist()
        assert len(values) == rows
        self.batches.append(values)
        self.ids.append(request_id.get())
        self.began.release()
        try:
            await self.gate.wait()
        finally:
            self.ended += 1
        if self.failure is not None:
            raise self.failure
        if BAD in values:
            raise ModelFailed("a bad row.")
        flagged = [row for row, value in enumerate(values) if value >= 100]
        return Answer({"y": inputs["x"] * 2}, {"x": flagged} if flagged else {}, {}, seconds=1.0)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def calls() -> list[int]:
    return []


@pytest.fixture
def batcher(model: Model, calls: list[int]) -> Batcher:
    return Batcher(model.run, max_rows=8, concurrency=1, observe=calls.append)


def ask(batcher: Batcher, *values: float, timeout: float = LONG) -> asyncio.Task[Answer]:
    inputs = {"x": np.array(values, np.float32)}
    return asyncio.ensure_future(batcher.answer(inputs, len(values), Deadline(timeout)))


async def begun(model: Model) -> None:
    async with asyncio.timeout(LONG):
        await model.began.acquire()


async def values(task: asyncio.Task[Answer]) -> list[float]:
    async with asyncio.timeout(LONG):
        found: list[float] = (await task).outputs["y"].tolist()
        return found


async def occupied(batcher: Batcher, model: Model) -> asyncio.Task[Answer]:
    """Let a first call run, so that all others wait."""
    first = ask(batcher, 0.0)
    await begun(model)
    return first


async def test_a_call_that_finds_the_model_free_runs_at_once_and_alone(
    batcher: Batcher, model: Model, calls: list[int]
) -> None:
    model.gate.set()
    for value in (1.0, 2.0):
        assert await values(ask(batcher, value)) == [2 * value]
    assert (model.batches, calls) == ([[1.0], [2.0]], [1, 1])


async def test_calls_that_wait_run_together_and_each_gets_its_own_rows(
    batcher: Batcher, model: Model, calls: list[int]
) -> None:
    first = await occupied(batcher, model)
    waiting = [ask(batcher, 1.0), ask(batcher, 2.0, 3.0), ask(batcher, 4.0)]
    await asyncio.sleep(0)
    model.gate.set()
    assert [await values(task) for task in (first, *waiting)] == [[0.0], [2.0], [4.0, 6.0], [8.0]]
    assert (model.batches, calls) == ([[0.0], [1.0, 2.0, 3.0, 4.0]], [1, 3])


async def test_flags_and_seconds_are_those_of_the_calls_own_rows(batcher: Batcher, model: Model) -> None:
    await occupied(batcher, model)
    waiting = [ask(batcher, 1.0, 100.0), ask(batcher, 2.0), ask(batcher, 101.0)]
    await asyncio.sleep(0)
    model.gate.set()
    answers = [await task for task in waiting]
    assert [answer.defaulted for answer in answers] == [{"x": [1]}, {}, {"x": [0]}]
    assert [answer.seconds for answer in answers] == [0.5, 0.25, 0.25]


async def test_a_batch_has_no_more_rows_than_one_call_may_have(batcher: Batcher, model: Model) -> None:
    await occupied(batcher, model)
    waiting = [ask(batcher, *[float(number)] * 5) for number in range(3)]
    await asyncio.sleep(0)
    model.gate.set()
    assert [len(await values(task)) for task in waiting] == [5, 5, 5]
    assert [len(batch) for batch in model.batches] == [1, 5, 5, 5]


async def test_a_bad_row_fails_its_own_call_only(batcher: Batcher, model: Model, calls: list[int]) -> None:
    await occupied(batcher, model)
    good, bad, other = ask(batcher, 1.0), ask(batcher, BAD), ask(batcher, 2.0)
    await asyncio.sleep(0)
    model.gate.set()
    assert [await values(good), await values(other)] == [[2.0], [4.0]]
    with pytest.raises(ModelFailed, match="a bad row"):
        await bad
    assert calls == [1, 3, 1, 1, 1]


@pytest.mark.parametrize("error", [FeatureStoreUnavailable("away."), NotReady("away."), DeadlineExceeded("late.")])
async def test_what_no_row_causes_is_not_tried_again_one_by_one(
    batcher: Batcher, model: Model, error: Exception
) -> None:
    await occupied(batcher, model)
    waiting = [ask(batcher, 1.0), ask(batcher, 2.0)]
    await asyncio.sleep(0)
    model.failure = error
    model.gate.set()
    for task in waiting:
        with pytest.raises(type(error)):
            await task
    assert model.batches == [[0.0], [1.0, 2.0]]


async def test_the_next_calls_run_after_a_failure(batcher: Batcher, model: Model) -> None:
    first = await occupied(batcher, model)
    model.failure = InvalidRequest("no.")
    model.gate.set()
    with pytest.raises(InvalidRequest):
        await first
    model.failure = None
    assert await values(ask(batcher, 3.0)) == [6.0]


async def test_a_call_whose_deadline_passes_leaves_its_batch_which_goes_on(batcher: Batcher, model: Model) -> None:
    first = await occupied(batcher, model)
    gone, hasty, patient = ask(batcher, 3.0), ask(batcher, 1.0, timeout=0.01), ask(batcher, 2.0)
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(DeadlineExceeded, match=r"the deadline of 0\.010 s passed"):
        await hasty
    model.gate.set()
    assert [await values(first), await values(patient)] == [[0.0], [4.0]]
    assert model.batches == [[0.0], [2.0]]


async def test_a_batch_that_everybody_has_left_is_ended(batcher: Batcher, model: Model) -> None:
    first = await occupied(batcher, model)
    waiting = [ask(batcher, 1.0), ask(batcher, 2.0)]
    await asyncio.sleep(0)
    first.cancel()
    await begun(model)
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    assert model.ended == 1
    waiting[1].cancel()
    for _ in range(9):
        await asyncio.sleep(0)
    assert model.ended == 2
    model.gate.set()
    assert await values(ask(batcher, 3.0)) == [6.0]
    assert model.ended == 3
    assert model.batches == [[0.0], [1.0, 2.0], [3.0]]


async def test_the_next_call_runs_after_all_callers_have_left_at_once(batcher: Batcher, model: Model) -> None:
    """The next batch is made and abandoned in one step of the loop: its task ends before it begins."""
    gone = [await occupied(batcher, model), ask(batcher, 1.0), ask(batcher, 2.0)]
    await asyncio.sleep(0)
    for call in gone:
        call.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    model.gate.set()
    assert await values(ask(batcher, 3.0, timeout=1.0)) == [6.0]


async def test_a_call_that_would_miss_its_deadline_in_a_large_batch_does_not_join_it(model: Model) -> None:
    now = 0.0
    batcher = Batcher(model.run, max_rows=1 << 10, concurrency=1, observe=lambda _: None, clock=lambda: now)
    slow = [float(number) for number in range(64)]
    first = ask(batcher, *slow)
    await begun(model)
    now = LONG + 1.0  # so long do 64 rows take
    model.gate.set()
    await first
    model.gate.clear()
    second = await occupied(batcher, model)
    waiting = [ask(batcher, 1.0, timeout=3 * LONG), ask(batcher, *slow, timeout=LONG)]
    await asyncio.sleep(0)
    model.gate.set()
    await asyncio.wait({second, *waiting})
    assert [len(batch) for batch in model.batches] == [64, 1, 1, 64]


async def test_as_many_batches_run_at_once_as_the_model_works_on(model: Model) -> None:
    batcher = Batcher(model.run, max_rows=8, concurrency=2, observe=lambda _: None)
    tasks = [ask(batcher, float(number)) for number in range(4)]
    for _ in range(2):
        await begun(model)
    assert model.batches == [[0.0], [1.0]]
    model.gate.set()
    assert [await values(task) for task in tasks] == [[0.0], [2.0], [4.0], [6.0]]
    assert model.batches[2:] == [[2.0, 3.0]]


async def test_a_batch_runs_under_no_calls_id(batcher: Batcher, model: Model) -> None:
    request_id.set(RequestId("mine"))
    await occupied(batcher, model)
    waiting = [ask(batcher, 1.0), ask(batcher, 2.0)]
    await asyncio.sleep(0)
    model.gate.set()
    await asyncio.wait(waiting)
    assert [str(current) for current in model.ids] == ["mine", "None"]


def taking(seconds: Callable[[int], float], clock: list[float]) -> Callable[[Tensors], Awaitable[None]]:
    async def call(inputs: Tensors) -> None:
        clock[0] += seconds(len(inputs["x"]))

    return call


@pytest.mark.parametrize(
    ("seconds", "max_rows", "expected"),
    [
        (lambda rows: 1.0, 1024, True),
        (lambda rows: 1.0 + rows * 0.1, 1024, True),
        (lambda rows: rows * 1.0, 1024, False),
        (lambda rows: 1.0, 4, False),
    ],
)
async def test_batches_are_worthwhile_if_rows_take_less_together(
    monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int], float], max_rows: int, expected: bool
) -> None:
    clock = [0.0]
    monkeypatch.setattr("serving.online.batching.time.perf_counter", lambda: clock[0])
    rows = {"x": np.ones(2, np.float32)}
    assert await worthwhile(taking(seconds, clock), rows, max_rows) is expected
