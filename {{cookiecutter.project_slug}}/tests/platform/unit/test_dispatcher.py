from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest

from serving.adapters.runtime.dispatcher import LOOP_BUDGET_S, Dispatcher, Stop
from serving.domain.errors import DeadlineExceeded
from serving.domain.tensors import Tensors

ONE = {"x": np.ones((1, 2), np.float32)}
LONG = 60.0


class Ended:
    """Hear that a call is to end."""

    def __init__(self) -> None:
        self._told = threading.Event()

    @property
    def terminate(self) -> bool:
        return self._told.is_set()

    @terminate.setter
    def terminate(self, told: bool) -> None:
        self._told.set()

    def wait(self) -> None:
        assert self._told.wait(LONG)


class Stopwatch:
    """A fake model that takes `row_s` seconds a row, on a clock that only it advances."""

    def __init__(self, row_s: float) -> None:
        self.row_s = row_s
        self.now = 0.0
        self.batches: list[int] = []

    def call(self, inputs: Tensors, stop: Stop) -> Tensors:
        assert isinstance(stop, Ended)
        assert inputs["x"].shape[1:] == (2,)
        rows = len(inputs["x"])
        self.batches.append(rows)
        self.now += rows * self.row_s
        return {"y": inputs["x"]}


async def measured(row_s: float, max_rows: int) -> tuple[Dispatcher, Stopwatch]:
    model = Stopwatch(row_s)
    placement = Dispatcher(model.call, Ended, clock=lambda: model.now)
    await placement.measure(ONE, max_rows)
    return placement, model


def rows(count: int) -> Tensors:
    return {"x": np.zeros((count, 2), np.float32)}


def where(run_in: list[int]) -> Callable[[Tensors, Stop], Tensors]:
    def call(inputs: Tensors, stop: Stop) -> Tensors:
        run_in.append(threading.get_ident())
        return {"y": inputs["x"]}

    return call


@pytest.mark.parametrize(
    ("row_s", "max_rows", "largest"),
    [
        (LOOP_BUDGET_S * 2, 1024, 0),
        (LOOP_BUDGET_S / 1.5, 1024, 1),
        (LOOP_BUDGET_S / 100, 1024, 64),
        (LOOP_BUDGET_S / 100, 20, 20),
        (0.0, 1024, 1024),
        (0.0, 1000, 1000),
        (0.0, 1, 1),
    ],
)
async def test_the_largest_batch_within_the_budget_is_found(row_s: float, max_rows: int, largest: int) -> None:
    placement, model = await measured(row_s, max_rows)
    assert placement.loop_rows == largest
    assert max(model.batches) <= max_rows
    placement.close()


async def test_a_batch_within_the_budget_runs_on_the_event_loop() -> None:
    run_in: list[int] = []
    placement = Dispatcher(where(run_in), Ended)
    placement.loop_rows = 4
    await placement.run(rows(4), timeout=LONG)
    assert run_in == [threading.get_ident()]
    placement.close()


async def test_a_larger_batch_runs_in_one_separate_thread() -> None:
    run_in: list[int] = []
    placement = Dispatcher(where(run_in), Ended)
    placement.loop_rows = 4
    await asyncio.gather(*(placement.run(rows(5), timeout=LONG) for _ in range(8)))
    assert len(run_in) == 8
    assert len(set(run_in)) == 1
    assert run_in[0] != threading.get_ident()
    placement.close()


async def test_nothing_runs_on_the_event_loop_before_the_model_is_measured() -> None:
    run_in: list[int] = []
    placement = Dispatcher(where(run_in), Ended)
    await placement.run(rows(1), timeout=LONG)
    assert run_in[0] != threading.get_ident()
    placement.close()


async def test_the_event_loop_is_not_blocked_while_the_model_runs() -> None:
    go_on = threading.Event()

    def call(inputs: Tensors, stop: Stop) -> Tensors:
        assert go_on.wait(LONG)
        return {"y": inputs["x"]}

    placement = Dispatcher(call, Ended)
    answer = asyncio.create_task(placement.run(rows(1), timeout=LONG))
    await asyncio.sleep(0)
    go_on.set()  # reached only if the loop was not blocked
    assert len((await answer)["y"]) == 1
    placement.close()


async def test_a_call_that_takes_too_long_is_ended_and_the_next_one_runs() -> None:
    ended: list[bool] = []

    def call(inputs: Tensors, stop: Stop) -> Tensors:
        if len(inputs["x"]) == 9:
            assert isinstance(stop, Ended)
            stop.wait()
            ended.append(True)
            raise RuntimeError("told to end")
        return {"y": inputs["x"]}

    placement = Dispatcher(call, Ended)
    with pytest.raises(DeadlineExceeded, match=r"the model did not answer within 0\.010 s"):
        await placement.run(rows(9), timeout=0.01)
    assert ended == [True]  # it is reported when it has ended, not before
    assert len((await placement.run(rows(1), timeout=LONG))["y"]) == 1
    placement.close()


async def test_a_call_whose_caller_leaves_is_ended() -> None:
    begun, ended = threading.Event(), threading.Event()

    def call(inputs: Tensors, stop: Stop) -> Tensors:
        begun.set()
        assert isinstance(stop, Ended)
        stop.wait()
        ended.set()
        return {}

    placement = Dispatcher(call, Ended)
    answer = asyncio.create_task(placement.run(rows(1), timeout=LONG))
    await asyncio.to_thread(begun.wait, LONG)
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    assert ended.is_set()
    placement.close()


async def test_a_call_that_takes_far_longer_on_the_event_loop_than_measured_moves_to_the_thread() -> None:
    placement, model = await measured(0.0, 8)
    model.row_s = LOOP_BUDGET_S * 10
    await placement.run(rows(1), timeout=LONG)
    assert placement.loop_rows == 8
    model.row_s = LOOP_BUDGET_S * 11
    await placement.run(rows(1), timeout=LONG)
    assert placement.loop_rows == 0
    placement.close()


async def test_a_model_error_reaches_the_caller_from_thread_and_event_loop() -> None:
    def call(inputs: Tensors, stop: Stop) -> Tensors:
        raise ArithmeticError("no answer")

    placement = Dispatcher(call, Ended)
    for loop_rows in (0, 1):
        placement.loop_rows = loop_rows
        with pytest.raises(ArithmeticError, match="no answer"):
            await placement.run(rows(1), timeout=LONG)
    placement.close()


def test_closing_twice_is_fine() -> None:
    placement = Dispatcher(lambda inputs, stop: inputs, Ended)
    placement.close()
    placement.close()


async def test_closing_waits_for_no_call_and_cancels_those_that_have_not_begun() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def call(inputs: Tensors, stop: Stop) -> Tensors:
        begun.set()
        assert go_on.wait(LONG)
        return {"y": inputs["x"]}

    placement = Dispatcher(call, Ended)
    running, waiting = (asyncio.create_task(placement.run(rows(1), timeout=LONG)) for _ in range(2))
    await asyncio.to_thread(begun.wait, LONG)
    placement.close()
    go_on.set()
    assert len((await running)["y"]) == 1
    with pytest.raises(asyncio.CancelledError):
        await waiting
