from __future__ import annotations

import asyncio
import faulthandler

import pytest

from serving.domain.errors import ModelFailed
from serving.online.grpc import watchdog
from serving.online.grpc.watchdog import watch

CALL_TIMEOUT_S = 2.0
LIMIT_S = 3.0  # a second more: a call that ends at its deadline is no fault


class Timer:
    """Stand in for the interpreter's timer, which would end the tests."""

    def __init__(self) -> None:
        self.started: list[tuple[float, bool]] = []
        self.running = False

    def start(self, seconds: float, *, exit: bool) -> None:  # noqa: A002 - as faulthandler calls it
        self.started.append((seconds, exit))
        self.running = True

    def cancel(self) -> None:
        self.running = False


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> Timer:
    made = Timer()
    monkeypatch.setattr(faulthandler, "dump_traceback_later", made.start)
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", made.cancel)
    monkeypatch.setattr(watchdog, "_TICK_S", 0.01)
    return made


async def test_a_call_that_runs_longer_than_any_may_is_reported(timer: Timer) -> None:
    seconds = iter([0.0, LIMIT_S, LIMIT_S + 0.1])
    with pytest.raises(ModelFailed) as failure:
        await watch(lambda: next(seconds), CALL_TIMEOUT_S)
    assert str(failure.value) == (
        "a model call has run for 3.1 s and can't be ended; the longest is SERVING_CALL_TIMEOUT=2. "
        "The process ends, so that its supervisor starts it anew."
    )
    assert list(seconds) == []


async def test_while_the_loop_runs_the_timer_that_ends_the_process_is_put_off(timer: Timer) -> None:
    seconds = iter([0.0, 1.0, LIMIT_S + 0.1])
    with pytest.raises(ModelFailed):
        await watch(lambda: next(seconds), CALL_TIMEOUT_S)
    assert timer.started == [(LIMIT_S + 0.01, True)] * 2
    assert not timer.running


async def test_a_watch_that_is_cancelled_leaves_no_timer(timer: Timer) -> None:
    watching = asyncio.create_task(watch(lambda: 0.0, CALL_TIMEOUT_S))
    await asyncio.sleep(0)
    assert timer.running
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert not timer.running
