"""The only queue before the model: as many calls run as the model can work on, the others wait in order of arrival.

A call keeps its turn until its work has really ended, so nothing runs that nobody counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from serving.domain.deadline import Deadline, outage_waited
from serving.domain.errors import DeadlineExceeded
from serving.domain.ports import ModelRuntime
from serving.domain.tensors import Tensors
from serving.online.slots import Slots


class ModelQueue:
    """Call a runtime in turn; `observe` receives the duration of each model call in seconds, without the wait."""

    def __init__(
        self,
        runtime: ModelRuntime,
        observe: Callable[[float], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime
        self._observe = observe
        self._clock = clock
        self._turns = Slots(runtime.concurrency)
        self._began: dict[object, float] = {}

    async def predict(self, inputs: Tensors, *, timeout: float) -> tuple[Tensors, float]:
        """Return the model's answer for one batch, and how many seconds the model took, without any outage.

        :raises DeadlineExceeded: the turn, or the answer, did not come within `timeout` seconds
        """
        deadline = Deadline(timeout)
        try:
            await self._turns.take(timeout=timeout)
        except TimeoutError:
            raise _too_late(timeout) from None
        if deadline.passed():
            self._turns.give_back()
            raise _too_late(timeout)
        call = object()
        self._began[call] = began = self._clock()
        waited = outage_waited()
        try:
            answer = await self._runtime.predict(inputs, timeout=deadline.left())
            return answer, self._clock() - began - (outage_waited() - waited)
        finally:
            self._observe(self._clock() - self._began.pop(call))
            self._turns.give_back()

    def longest(self) -> float:
        """Return for how many seconds the oldest of the running calls has run; 0 if none runs."""
        return self._clock() - next(iter(self._began.values())) if self._began else 0.0


def _too_late(timeout: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"the deadline of {timeout:.3f} s passed before the model was called.")
