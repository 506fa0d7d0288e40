"""The deadline of a call, shared by all of its steps."""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """Share one timeout, in seconds, between the steps of a call."""

    def __init__(self, timeout: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + timeout
        self.timeout = timeout
        """The seconds that the caller gave."""

    def left(self) -> float:
        """Return the seconds that are left; negative after the deadline."""
        return self._end - self._clock()

    def passed(self) -> bool:
        """Return whether the deadline has passed."""
        return self.left() <= 0
