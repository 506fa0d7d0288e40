"""A circuit breaker: after some failures in a row, ask no more for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

FAILURES = 3
PAUSE_S = 1.0


class Breaker:
    """Count failures in a row; open after FAILURES, let one attempt through every PAUSE_S seconds while open.

    Calls that are under way together fail together, for one reason: they count as one failure. Else a single hiccup
    under load would open the breaker.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self._failures = 0
        self._last_failure = float("-inf")
        self._next_attempt = 0.0

    def allows(self) -> bool:
        """Tell whether to ask now; while open, a yes is the one attempt of this pause."""
        if self._failures < FAILURES:
            return True
        if self.now() < self._next_attempt:
            return False
        self._next_attempt = self.now() + PAUSE_S
        return True

    def failed(self, started: float) -> None:
        """Note the failure of a call that started at this time."""
        if started >= self._last_failure:
            self._failures += 1
            self._last_failure = self.now()
            self._next_attempt = self._last_failure + PAUSE_S

    def succeeded(self) -> None:
        """Note a success: the breaker is closed."""
        self._failures = 0
