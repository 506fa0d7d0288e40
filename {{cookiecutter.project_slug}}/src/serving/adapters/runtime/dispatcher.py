"""Dispatch a model call: short ones run on the event loop, long ones in one worker thread.

A call on the loop blocks all other calls and health checks; a thread adds about 0.1 ms. The model is timed at warm-up,
and batches slower than LOOP_BUDGET_S go to the thread. A second thread would compete for the same cores.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np

from serving.domain.errors import DeadlineExceeded
from serving.domain.tensors import Tensors

LOOP_BUDGET_S = 0.003
_FAR_BEYOND = 10
_REPEATS = 3

_T = TypeVar("_T")


class Stop(Protocol):
    """End a running call: once `terminate` is true, a model that looks at it gives up."""

    terminate: bool


class Dispatcher:
    """Run `call` on the event loop or in a thread, by batch size; a new `stop` comes with each call."""

    def __init__(
        self,
        call: Callable[[Tensors, Stop], Tensors],
        stop: Callable[[], Stop],
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._call = call
        self._stop = stop
        self._clock = clock
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.loop_rows = 0

    async def measure(self, inputs: Tensors, max_rows: int) -> None:
        """Find the largest batch that stays within the budget, doubling from one row on."""
        rows = 1
        while rows <= max_rows:
            batch = {name: np.resize(tensor, (rows, *tensor.shape[1:])) for name, tensor in inputs.items()}
            await self._in_thread(self._call, batch)  # not timed: the first call of a shape allocates
            times = [await self._in_thread(self._timed, batch) for _ in range(_REPEATS)]
            if min(times) > LOOP_BUDGET_S:
                return
            self.loop_rows = rows
            rows = min(rows * 2, max_rows) if rows < max_rows else max_rows + 1

    async def run(self, inputs: Tensors, *, timeout: float) -> Tensors:
        """Run the call on one batch; return or raise only when it has ended.

        :raises DeadlineExceeded: the call was ended after `timeout` seconds
        """
        if len(next(iter(inputs.values()))) > self.loop_rows:
            return await self._in_thread(self._call, inputs, timeout=timeout)
        began = self._clock()
        try:
            return self._call(inputs, self._stop())
        finally:
            if self._clock() - began > _FAR_BEYOND * LOOP_BUDGET_S:
                self.loop_rows = 0  # what it costs depends on more than its rows: keep it off the loop

    def close(self) -> None:
        """Cancel waiting calls; do not wait for a running one."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(
        self, call: Callable[[Tensors, Stop], _T], inputs: Tensors, *, timeout: float | None = None
    ) -> _T:
        """Run a call in the worker thread; at the timeout, or if the caller leaves, end it and wait for its end."""
        stop = self._stop()
        job = self._worker.submit(call, inputs, stop)
        work = asyncio.wrap_future(job)
        try:
            await asyncio.wait({work}, timeout=timeout)
            if work.done():
                return work.result()
        finally:
            if not work.done() and not job.cancel():
                stop.terminate = True
                await asyncio.wait({work})
                work.exception()  # whatever it raised, nobody waits for it any more
        raise DeadlineExceeded(f"the model did not answer within {timeout:.3f} s.")

    def _timed(self, batch: Tensors, stop: Stop) -> float:
        start = self._clock()
        self._call(batch, stop)
        return self._clock() - start
