"""The deadline of a call, shared by all of its steps."""

from __future__ import annotations

import time
from numbers import Real

from .errors import InvalidRequest

LONGEST_S = 86_400.0
"""The longest timeout: gRPC treats one that it can't represent, such as infinity, as already passed."""


class Deadline:
    """Share one timeout between the steps and retries of a call."""

    def __init__(self, timeout: float) -> None:
        seconds: float = float(timeout) if isinstance(timeout, Real) else 0.0
        if not 0 < seconds <= LONGEST_S:
            raise InvalidRequest(
                f"timeout: {timeout!r} is not valid; give seconds, more than 0 and at most {LONGEST_S:.0f}."
            )
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, at least 1 ms: gRPC then ends the call itself."""
        return max(self._end - time.monotonic(), 0.001)

    def passed(self) -> bool:
        """Return whether the deadline has passed."""
        return time.monotonic() >= self._end
