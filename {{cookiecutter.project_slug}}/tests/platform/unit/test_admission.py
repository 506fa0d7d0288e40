from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.domain.errors import DeadlineExceeded, Overloaded
from serving.online.admission import Admission, Limits
from tests.platform.support.services import AMPLE

LONG = 60.0
CANCELS = 10_000


class Caller:
    """Hold a slot until it is released."""

    def __init__(self, admission: Admission, *, timeout: float = LONG) -> None:
        self.inside = asyncio.Event()
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._hold(admission, timeout))

    async def _hold(self, admission: Admission, timeout: float) -> None:
        async with admission.slot(size=1, timeout=timeout):
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
    return Admission(Limits(max_running, max_queued, AMPLE), reasons.append)


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
        async with admission.slot(size=1, timeout=LONG):
            pass
    assert reasons == ["queue_full"]
    await asyncio.gather(*(caller.end() for caller in callers))


async def test_without_a_queue_no_call_waits() -> None:
    admission = refusing([], 1, 0)
    (caller,) = await arrive(admission, 1)
    with pytest.raises(Overloaded):
        async with admission.slot(size=1, timeout=LONG):
            pass
    await caller.end()


async def one_call(admission: Admission, took: float, size: int = 1) -> None:
    """Let one call pass, whose model took so many seconds."""
    async with admission.slot(size=size, timeout=LONG) as call:
        call.took = took


async def test_a_call_that_can_t_be_answered_before_its_deadline_is_refused_at_once() -> None:
    reasons: list[str] = []
    admission = refusing(reasons, 16, 9)
    await one_call(admission, took=10.0)
    running = await arrive(admission, 2)  # both hold a slot, yet the model answers one after the other
    with pytest.raises(Overloaded, match=r"the answer could take 39\.00 s, the deadline is 38\.90 s"):
        async with admission.slot(size=1, timeout=38.9):
            pass
    assert reasons == ["deadline"]
    async with admission.slot(size=1, timeout=39.1):
        assert admission.running == 3
    await asyncio.gather(*(caller.end() for caller in running))


async def test_a_model_that_works_on_many_calls_at_once_answers_sooner() -> None:
    admission = Admission(Limits(16, 9, AMPLE, concurrency=2), lambda _: None)
    await one_call(admission, took=10.0)
    running = await arrive(admission, 2)
    async with admission.slot(size=1, timeout=26.1):
        assert admission.running == 3
    await asyncio.gather(*(caller.end() for caller in running))


async def test_a_call_that_finds_nobody_is_let_in_whatever_is_expected() -> None:
    admission = refusing([], 1, 9)
    await one_call(admission, took=10.0)
    for _ in range(30):  # the first was an exception: the estimate comes down again
        async with admission.slot(size=1, timeout=1.0) as call:
            call.took = 0.1
    (caller,) = await arrive(admission, 1)
    turn = asyncio.create_task(one_call(admission, took=0.1))
    await settle()
    assert admission.queued == 1
    await asyncio.gather(caller.end(), turn)


async def test_what_a_call_costs_is_learnt_by_the_size_of_its_request() -> None:
    admission = refusing([], 4, 9)
    await one_call(admission, took=0.01, size=100)
    await one_call(admission, took=5.0, size=10_000)
    (caller,) = await arrive(admission, 1)
    async with admission.slot(size=100, timeout=1.0):
        pass
    with pytest.raises(Overloaded, match="could take 6.5"):
        async with admission.slot(size=10_000, timeout=1.0):
            pass
    async with admission.slot(size=2_000, timeout=6.6):  # a size never seen counts like the nearest one
        pass
    await caller.end()


async def test_what_is_expected_follows_the_calls_of_one_size_slowly() -> None:
    admission = refusing([], 16, 9)
    for took in (10.0, 0.0):  # a fifth of the difference counts
        await one_call(admission, took)
    (caller,) = await arrive(admission, 1)
    with pytest.raises(Overloaded, match=r"the answer could take 20\.80 s"):
        async with admission.slot(size=1, timeout=20.7):
            pass
    await caller.end()


async def test_requests_beyond_the_bytes_are_refused() -> None:
    reasons: list[str] = []
    admission = Admission(Limits(1, 9, max_bytes=1000), reasons.append)
    async with admission.slot(size=900, timeout=LONG):
        with pytest.raises(Overloaded, match="900 bytes of requests are held, 101 more would pass the limit of 1000"):
            async with admission.slot(size=101, timeout=LONG):
                pass
        waiting = asyncio.create_task(one_call(admission, 0.0, size=100))
        await settle()
        assert admission.queued == 1
    await waiting
    assert reasons == ["memory"]
    async with admission.slot(size=1000, timeout=LONG):
        pass


async def test_a_deadline_that_passes_while_waiting_is_reported_and_leaves_the_queue() -> None:
    admission = refusing([], 1, 9)
    (caller,) = await arrive(admission, 1)
    with pytest.raises(DeadlineExceeded, match=r"the deadline of 0\.010 s passed while the call waited"):
        async with admission.slot(size=1, timeout=0.01):
            pass
    assert (admission.running, admission.queued) == (1, 0)
    await caller.end()
    assert admission.running == 0


async def test_a_call_that_fails_gives_its_slot_back() -> None:
    admission = refusing([], 1, 0)
    for _ in range(3):
        with pytest.raises(KeyError):
            async with admission.slot(size=1, timeout=LONG):
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
    async with admission.slot(size=1, timeout=LONG):
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
