from __future__ import annotations

import asyncio

import pytest

from serving.adapters.feature_store.breaker import FAILURES, PAUSE_S, Breaker
from serving.domain.errors import FeaturesNotFilled, FeaturesOutdated


class Clock:
    """A clock that tests advance."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        clock.now += 0.1
        breaker.failed(started=clock.now)
    return breaker


def test_it_opens_after_some_failures_in_a_row_and_not_before() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        assert breaker.allows()
        clock.now += 0.1
        breaker.failed(started=clock.now)
    assert not breaker.allows()


def test_a_success_between_failures_keeps_it_closed() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(10):
        clock.now += 0.1
        breaker.failed(started=clock.now)
        breaker.succeeded()
    assert breaker.allows()


def test_concurrent_failures_count_once() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    started = clock.now
    clock.now += 0.1
    for _ in range(10):
        breaker.failed(started=started)
    assert breaker.allows()


def test_while_open_it_lets_one_attempt_through_per_pause() -> None:
    clock = Clock()
    breaker = opened(clock)
    for _ in range(3):
        clock.now += PAUSE_S
        assert [breaker.allows() for _ in range(5)] == [True, False, False, False, False]


def test_it_closes_when_an_attempt_succeeds() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += PAUSE_S
    assert breaker.allows()
    breaker.succeeded()
    assert all(breaker.allows() for _ in range(5))


async def test_a_caller_that_leaves_is_no_failure_and_does_not_use_up_the_attempt() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(10):
        with pytest.raises(asyncio.CancelledError), breaker.guard((OSError,), timeout=1.0):
            raise asyncio.CancelledError
    assert breaker.allows()
    breaker = opened(clock)
    clock.now += PAUSE_S
    with pytest.raises(asyncio.CancelledError), breaker.guard((OSError,), timeout=1.0):
        raise asyncio.CancelledError
    assert breaker.allows()  # the attempt is still to be had
    assert not breaker.allows()


def test_an_answer_that_refuses_closes_it() -> None:
    clock = Clock()
    for refusal in (FeaturesNotFilled(), FeaturesOutdated("outdated.")):
        breaker = opened(clock)
        clock.now += PAUSE_S
        with pytest.raises(type(refusal)), breaker.guard((OSError,), timeout=1.0):
            raise refusal
        assert breaker.allows()
        assert breaker.allows()


def test_a_call_from_before_it_opened_does_not_cut_its_pause() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    early = breaker.guard((OSError,), timeout=1.0)
    early.__enter__()
    for _ in range(FAILURES):
        clock.now += 0.1
        breaker.failed(started=clock.now)
    error = asyncio.CancelledError()
    assert not early.__exit__(type(error), error, None)  # it goes on to the caller
    assert not breaker.allows()


def test_after_a_success_failures_are_counted_anew() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(2):
        for _ in range(FAILURES - 1):
            clock.now += 0.1
            breaker.failed(started=clock.now)
        assert breaker.allows()
        breaker.succeeded()


def test_a_pause_begins_with_the_last_failure_and_ends_exactly() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += PAUSE_S - 0.01
    assert not breaker.allows()
    clock.now += 0.01
    assert breaker.allows()
    assert not breaker.allows()  # one attempt a pause
    clock.now += PAUSE_S
    assert breaker.allows()
