"""A circuit breaker for the feature store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from serving.domain.errors import FeaturesNotFilled, FeaturesOutdated, FeatureStoreUnavailable

FAILURES = 3
PAUSE_S = 1.0


class Breaker:
    """Count failures in a row; open after FAILURES, let one attempt through every PAUSE_S seconds while open.

    Concurrent calls that fail together count as one failure; otherwise a single hiccup under load would open it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self._failures = 0
        self._last_failure = float("-inf")
        self._next_attempt = 0.0

    @contextmanager
    def guard(
        self,
        failures: tuple[type[BaseException], ...],
        *,
        timeout: float,
        unreadable: str = "the feature store can't be read.",
    ) -> Iterator[None]:
        """Count the outcome of one read and translate its failures; while open, refuse it at once.

        A read that is cancelled counts as nothing: its caller left, and the store did not fail.

        :raises FeatureStoreUnavailable: the read failed, took longer than `timeout` seconds, or was refused
        """
        started, probing = self.now(), self._failures >= FAILURES
        if not self.allows():
            raise FeatureStoreUnavailable(
                "the feature store has failed repeatedly; reads pause for a moment to let it recover."
            )
        try:
            yield
        except (FeaturesNotFilled, FeaturesOutdated):
            self.succeeded()  # it answered
            raise
        except (asyncio.CancelledError, FeatureStoreUnavailable):  # the caller left, or the read never began
            if probing:
                self.abandoned()
            raise
        except (TimeoutError, redis.TimeoutError):
            self.failed(started)
            raise FeatureStoreUnavailable(f"the feature store did not answer within {timeout:.3f} s.") from None
        except failures as error:
            self.failed(started)
            raise FeatureStoreUnavailable(unreadable) from error
        self.succeeded()

    def allows(self) -> bool:
        """Return whether to call now; while open, once per pause."""
        if self._failures < FAILURES:
            return True
        if self.now() < self._next_attempt:
            return False
        self._next_attempt = self.now() + PAUSE_S
        return True

    def failed(self, started: float) -> None:
        """Record the failure of a call that started at this time."""
        if started >= self._last_failure:
            self._failures += 1
            self._last_failure = self.now()
            self._next_attempt = self._last_failure + PAUSE_S

    def abandoned(self) -> None:
        """Record that the attempt had no outcome: another call may try."""
        self._next_attempt = self.now()

    def succeeded(self) -> None:
        """Record a success: close the breaker."""
        self._failures = 0
