"""Admission control: a bounded number of calls run, a bounded number wait, the rest is refused at once.

A server that takes on more than it can do answers nobody in time. Refusing costs a millisecond and tells a client to go
elsewhere. Health checks and metadata don't pass here: they must answer while the service is busy.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from serving.domain.errors import DeadlineExceeded, Overloaded

_SMOOTHING = 0.1


class Admission:
    """Hand out slots in the order of arrival; `observe_refusal` gets the reason of each refusal."""

    def __init__(self, max_running: int, max_queued: int, observe_refusal: Callable[[str], None]) -> None:
        self._max_running = max_running
        self._max_queued = max_queued
        self._observe_refusal = observe_refusal
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._held_s = 0.0
        self.running = 0

    @property
    def queued(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def slot(self, *, timeout: float) -> AsyncIterator[None]:
        """Hold one slot.

        :raises Overloaded: the queue is full, or moves too slowly for this call's deadline
        :raises DeadlineExceeded: the call waited until its deadline
        """
        if self.running < self._max_running:
            self.running += 1
        else:
            await self._wait(timeout)
        started = time.monotonic()
        try:
            yield
        finally:
            self._held_s += _SMOOTHING * (time.monotonic() - started - self._held_s)
            self._release()

    async def _wait(self, timeout: float) -> None:
        if self.queued >= self._max_queued:
            self._observe_refusal("queue_full")
            raise Overloaded(f"{self.running} calls run and {self.queued} wait, which is the limit; try again later.")
        expected = self._held_s * (self.queued + 1) / self._max_running
        if expected > timeout:
            self._observe_refusal("deadline")
            raise Overloaded(
                f"the wait would be about {expected:.2f} s, the deadline is {timeout:.2f} s; try again later."
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._release()  # the slot came at the moment of giving up: pass it on
            else:
                with suppress(ValueError):  # a slot that came free meanwhile has passed over it already
                    self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(f"the deadline of {timeout:.3f} s passed while the call waited.") from None
            raise

    def _release(self) -> None:
        """Pass the slot to the call that waits longest, or take it back."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1
