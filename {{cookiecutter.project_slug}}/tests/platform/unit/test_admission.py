from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.domain.errors import DeadlineExceeded, Overloaded
from serving.online.grpc.admission import Admission

LONG = 60.0
CANCELS = 10_000


class Caller:
    """Hold a slot until it is released."""

    def __init__(self, admission: Admission, *, timeout: float = LONG) -> None:
        self.inside = asyncio.Event()
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._hold(admission, timeout))

    async def _hold(self, admission: Admission, timeout: float) -> None:
        async with admission.slot(timeout=timeout):
            self.inside.set()
            await self.leave.wait()

    async def end(self) -> None:
        self.leave.set()
        await self.task


async def settle() -> None:
    """Let every task run until it waits for an outside event."""
    for _ in range(5):
        await asyncio.sleep(0)


async def arrive(admission: Admission, count: int) -> list[Caller]:
    callers = [Caller(admission) for _ in range(count)]
    await settle()
    return callers


def refusing(reasons: list[str], max_running: int, max_queued: int) -> Admission:
    return Admission(max_running, max_queued, reasons.append)


async def test_calls_run_up_to_the_limit_and_the_rest_wait() -> None:
    admission = refusing([], 2, 3)
    callers = await arrive(admission, 5)
    assert [caller.inside.is_set() for caller in callers] == [True, True, False, False, False]
    assert (admission.running, admission.queued) == (2, 3)
    await asyncio.gather(*(caller.end() for caller in callers))
    assert (admission.running, admission.queued) == (0, 0)


async def test_waiting_calls_get_slots_in_order_of_arrival() -> None:
    admission = refusing([], 1, 9)
    callers = await arrive(admission, 4)
    for number, caller in enumerate(callers):
        assert [other.inside.is_set() for other in callers] == [other <= number for other in range(4)]
        await caller.end()
        await settle()


async def test_a_call_beyond_the_queue_is_refused_at_once_and_counted() -> None:
    reasons: list[str] = []
    admission = refusing(reasons, 1, 1)
    callers = await arrive(admission, 2)
    with pytest.raises(Overloaded, match="1 calls run and 1 wait, which is the limit; try again later"):
        async with admission.slot(timeout=LONG):
            pass
    assert reasons == ["queue_full"]
    await asyncio.gather(*(caller.end() for caller in callers))


async def test_without_a_queue_no_call_waits() -> None:
    admission = refusing([], 1, 0)
    (caller,) = await arrive(admission, 1)
    with pytest.raises(Overloaded):
        async with admission.slot(timeout=LONG):
            pass
    await caller.end()


async def test_a_call_that_would_wait_past_its_deadline_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("serving.online.grpc.admission.time.monotonic", lambda: now)
    reasons: list[str] = []
    admission = refusing(reasons, 1, 9)
    async with admission.slot(timeout=LONG):
        now += 100.0  # earlier calls were slow, as far as is known
    (caller,) = await arrive(admission, 1)
    with pytest.raises(Overloaded, match=r"the wait would be about 10\.00 s, the deadline is 5\.00 s"):
        async with admission.slot(timeout=5.0):
            pass
    assert reasons == ["deadline"]
    assert admission.queued == 0
    await caller.end()


async def test_a_deadline_that_passes_while_waiting_is_reported_and_leaves_the_queue() -> None:
    admission = refusing([], 1, 9)
    (caller,) = await arrive(admission, 1)
    with pytest.raises(DeadlineExceeded, match=r"the deadline of 0\.010 s passed while the call waited"):
        async with admission.slot(timeout=0.01):
            pass
    assert (admission.running, admission.queued) == (1, 0)
    await caller.end()
    assert admission.running == 0


async def test_a_call_that_fails_gives_its_slot_back() -> None:
    admission = refusing([], 1, 0)
    for _ in range(3):
        with pytest.raises(KeyError):
            async with admission.slot(timeout=LONG):
                raise KeyError
    assert admission.running == 0


async def test_a_cancelled_call_leaves_the_queue_and_the_next_gets_its_turn() -> None:
    admission = refusing([], 1, 9)
    first, cancelled, last = await arrive(admission, 3)
    cancelled.task.cancel()
    await settle()
    assert admission.queued == 1
    await first.end()
    await settle()
    assert last.inside.is_set()
    await last.end()


async def test_a_slot_granted_to_a_cancelled_call_is_passed_on() -> None:
    admission = refusing([], 1, 9)
    async with admission.slot(timeout=LONG):
        cancelled, last = await arrive(admission, 2)
    cancelled.task.cancel()  # it has just been granted the slot
    await settle()
    assert not cancelled.inside.is_set()
    assert last.inside.is_set()
    await last.end()
    assert admission.running == 0


async def test_ten_thousand_cancellations_at_random_moments_leak_no_slot() -> None:
    source = random.Random(7)
    admission = refusing([], 4, 64)
    cancelled = 0
    callers: list[Caller] = []
    while cancelled < CANCELS:
        callers.append(Caller(admission))
        for _ in range(source.randrange(3)):
            await asyncio.sleep(0)
        if source.random() < 0.3:
            source.choice(callers).leave.set()
        victim = source.choice(callers)
        cancelled += victim.task.cancel()
        callers = [caller for caller in callers if not caller.task.done()]
        assert admission.running <= 4
        assert admission.queued <= 64
    for caller in callers:
        caller.leave.set()
    await asyncio.gather(*(caller.task for caller in callers), return_exceptions=True)
    assert (admission.running, admission.queued) == (0, 0)
    (last,) = await arrive(admission, 1)
    assert last.inside.is_set()
    await last.end()


ACTIONS = st.lists(st.tuples(st.sampled_from(["arrive", "leave", "cancel", "settle"]), st.integers(0, 99)), max_size=60)


@settings(max_examples=60)
@given(ACTIONS, st.integers(1, 3), st.integers(0, 4))
def test_the_limits_hold_and_all_slots_are_returned_whatever_callers_do(
    actions: list[tuple[str, int]], max_running: int, max_queued: int
) -> None:
    async def play() -> None:
        admission = refusing([], max_running, max_queued)
        callers: list[Caller] = []
        steps: dict[str, Callable[[Caller], object]] = {
            "leave": lambda caller: caller.leave.set(),
            "cancel": lambda caller: caller.task.cancel(),
        }
        for action, number in actions:
            if action == "arrive":
                callers.append(Caller(admission))
            elif action == "settle":
                await settle()
            elif callers:
                steps[action](callers[number % len(callers)])
            assert admission.running <= max_running
            assert admission.queued <= max_queued
        await settle()
        # No call waits while slots are free: a lost slot would show here.
        assert admission.running == max_running or admission.queued == 0
        ends: list[Awaitable[None]] = [caller.end() for caller in callers]
        outcomes = await asyncio.gather(*ends, return_exceptions=True)
        assert all(isinstance(outcome, Overloaded | asyncio.CancelledError | None) for outcome in outcomes)
        assert (admission.running, admission.queued) == (0, 0)

    asyncio.run(play())
