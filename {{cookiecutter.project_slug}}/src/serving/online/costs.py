"""What work costs, learnt by its size from the work before it."""

from __future__ import annotations

_SMOOTHING = 0.2


class Costs:
    """Know how many seconds work of some size takes; the unit of size is the user's."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def expect(self, size: int) -> float:
        """Return the seconds to expect; a size that was never seen counts like the nearest known one."""
        kind = size.bit_length()
        if kind in self._seconds or not self._seconds:
            return self._seconds.get(kind, 0.0)
        return self._seconds[min(self._seconds, key=lambda known: abs(known - kind))]

    def learn(self, size: int, seconds: float) -> None:
        """Take in what it took; sizes between two powers of two are one kind."""
        kind = size.bit_length()
        known = self._seconds.get(kind, seconds)
        self._seconds[kind] = known + _SMOOTHING * (seconds - known)
