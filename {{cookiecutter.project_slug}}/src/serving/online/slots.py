"""A number of slots, handed out in the order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class Slots:
    """Hold `count` slots; those who wait get them in the order in which they came."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def free(self) -> bool:
        """Whether a slot can be had at once."""
        return self.taken < self.count

    async def take(self, *, timeout: float) -> None:
        """Take a slot.

        :raises TimeoutError: none came free in time
        """
        if self.free:
            self.taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give_back()  # the slot came at the moment of giving up: pass it on
            else:
                with suppress(ValueError):  # a slot that came free meanwhile has passed over it already
                    self._waiting.remove(turn)
            raise

    def give_back(self) -> None:
        """Pass the slot to whoever waits longest, or keep it free."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1
