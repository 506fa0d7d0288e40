"""The deadline of a call, shared by all of its steps, and the time that it waited for a model in another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar

_OUTAGE_S = ContextVar("outage_s", default=0.0)


def outage_waited() -> float:
    """Return for how many seconds this task has waited until a model in another process answered again."""
    return _OUTAGE_S.get()


def waited_for_outage(seconds: float) -> None:
    """Add seconds that this task waited; they don't count as work of the model, which the next call would wait for."""
    _OUTAGE_S.set(_OUTAGE_S.get() + seconds)


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
