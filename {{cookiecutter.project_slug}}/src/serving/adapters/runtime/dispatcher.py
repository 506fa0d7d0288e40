"""Dispatch a model call: short ones run on the event loop, long ones in one worker thread.

A call on the loop blocks all other calls and health checks; a thread adds about 0.1 ms. The model is timed at warm-up,
and batches slower than LOOP_BUDGET_S go to the thread. A second thread would compete for the same cores.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from serving.domain.errors import DeadlineExceeded
from serving.domain.tensors import Tensors

LOOP_BUDGET_S = 0.003
_REPEATS = 3


class Dispatcher:
    """Run `call` on the event loop or in a thread, by batch size."""

    def __init__(self, call: Callable[[Tensors], Tensors], *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._call = call
        self._clock = clock
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.loop_rows = 0

    def measure(self, inputs: Tensors, max_rows: int) -> None:
        """Find the largest batch that stays within the budget, doubling from one row on."""
        rows = 1
        while rows <= max_rows:
            batch = {name: np.resize(tensor, (rows, *tensor.shape[1:])) for name, tensor in inputs.items()}
            self._call(batch)  # not timed: the first call of a shape allocates
            if min(self._timed(batch) for _ in range(_REPEATS)) > LOOP_BUDGET_S:
                return
            self.loop_rows = rows
            rows = min(rows * 2, max_rows) if rows < max_rows else max_rows + 1

    async def run(self, inputs: Tensors, *, timeout: float) -> Tensors:
        """Run the call on one batch."""
        rows = len(next(iter(inputs.values())))
        if rows <= self.loop_rows:
            return self._call(inputs)
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.run_in_executor(self._worker, self._call, inputs), timeout)
        except TimeoutError:
            raise DeadlineExceeded(f"the model did not answer within {timeout:.3f} s.") from None

    def close(self) -> None:
        """Cancel waiting calls; a running call can't be stopped and finishes by itself."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _timed(self, batch: Tensors) -> float:
        start = self._clock()
        self._call(batch)
        return self._clock() - start
