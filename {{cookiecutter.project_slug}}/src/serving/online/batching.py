"""Batches without a clock: calls that wait at the same moment share one feature-store read and one model call.

Nobody waits for company. A call that finds the model free runs at once, alone. Those that come meanwhile wait anyway,
and run together when it is free again. So batches form under load only, as large as the load makes them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, copy_context
from dataclasses import dataclass

import numpy as np

from serving.domain.deadline import Deadline
from serving.domain.errors import DeadlineExceeded, FeatureStoreUnavailable, NotReady
from serving.domain.tensors import Tensors
from serving.online.costs import Costs
from serving.prediction.pipeline import Answer, Run

_OF_ALL = (DeadlineExceeded, FeatureStoreUnavailable, NotReady)
"""Failures that no row causes; after any other, each call of the batch runs alone."""

_TRIED_ROWS, _TRIES = 8, 3
_WORTHWHILE = 0.5


def nullcontext_of(_calls: Sequence[Context]) -> AbstractContextManager[None]:
    """Surround the work for several calls with nothing."""
    return nullcontext()


@dataclass(eq=False)
class _Waiting:
    inputs: Tensors
    rows: int
    deadline: Deadline
    answer: asyncio.Future[Answer]
    context: Context
    batch: _Batch | None = None


@dataclass(eq=False)
class _Batch:
    calls: list[_Waiting]
    task: asyncio.Task[None] | None = None

    def abandoned(self) -> bool:
        """Return whether nobody waits for it any more."""
        return all(call.answer.done() for call in self.calls)


class Batcher:
    """Run calls alone or together, at most `concurrency` batches at once, none with more than `max_rows` rows.

    `observe` receives the number of calls in each batch; `join` surrounds the work for several calls, whose contexts it
    gets.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_rows: int,
        concurrency: int,
        observe: Callable[[int], None],
        join: Callable[[Sequence[Context]], AbstractContextManager[None]] = nullcontext_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._join = join
        self._run = run
        self._max_rows = max_rows
        self._concurrency = concurrency
        self._observe = observe
        self._costs = Costs()
        self._running = 0
        self._waiting: deque[_Waiting] = deque()

    async def answer(self, inputs: Tensors, rows: int, deadline: Deadline) -> Answer:
        """Answer one call.

        :raises DeadlineExceeded: its own deadline has passed; the other calls of its batch go on
        """
        if self._running < self._concurrency:
            self._running += 1
            try:
                return await self._timed(inputs, rows, deadline, calls=1)
            finally:
                self._free()
        call = _Waiting(inputs, rows, deadline, asyncio.get_running_loop().create_future(), copy_context())
        self._waiting.append(call)
        try:
            async with asyncio.timeout(max(0.0, deadline.left())):
                return await call.answer
        except TimeoutError:
            raise _late(deadline) from None
        finally:
            self._leave(call)

    def _leave(self, call: _Waiting) -> None:
        call.answer.cancel()
        if call.batch is None:
            if call in self._waiting:
                self._waiting.remove(call)
        elif call.batch.task is not None and call.batch.abandoned():
            call.batch.task.cancel()  # without effect if it has ended

    def _free(self) -> None:
        """Run who waits, now that there is room."""
        self._running -= 1
        while self._waiting and self._running < self._concurrency:
            batch = _Batch(self._next_calls())
            for call in batch.calls:
                call.batch = batch
            self._running += 1
            # Not the context of the call that has just ended: the log lines would carry its id.
            context = batch.calls[0].context if len(batch.calls) == 1 else Context()
            batch.task = asyncio.get_running_loop().create_task(self._together(batch), context=context)
            # Not in a `finally`: a task that is cancelled before its first step never gets there.
            batch.task.add_done_callback(lambda _: self._free())

    def _next_calls(self) -> list[_Waiting]:
        """Take the calls of one batch, in the order of arrival, as long as each keeps its deadline."""
        calls = [self._waiting.popleft()]
        rows, left = calls[0].rows, calls[0].deadline.left()
        while self._waiting:
            rows += self._waiting[0].rows
            left = min(left, self._waiting[0].deadline.left())
            if rows > self._max_rows or self._costs.expect(rows) > left:
                break
            calls.append(self._waiting.popleft())
        return calls

    async def _together(self, batch: _Batch) -> None:
        calls = batch.calls
        if len(calls) == 1:
            await self._alone(calls[0])
            return
        rows = sum(call.rows for call in calls)
        most_patient = max((call.deadline for call in calls), key=Deadline.left)
        try:
            inputs = {name: np.concatenate([call.inputs[name] for call in calls]) for name in calls[0].inputs}
            with self._join([call.context for call in calls]):
                answer = await self._timed(inputs, rows, most_patient, calls=len(calls))
        except _OF_ALL as error:
            for call in calls:
                _fail(call, error)
        except Exception:  # noqa: BLE001 - whatever it is, it may be the fault of one call alone
            for call in calls:
                await self._alone(call)
        else:
            start = 0
            for call in calls:
                if not call.answer.done():
                    call.answer.set_result(answer.part(start, call.rows, rows))
                start += call.rows

    async def _alone(self, call: _Waiting) -> None:
        if call.answer.done():
            return
        try:
            answer = await self._timed(call.inputs, call.rows, call.deadline, calls=1)
        except Exception as error:  # noqa: BLE001 - it belongs to the caller
            _fail(call, error)
        else:
            if not call.answer.done():
                call.answer.set_result(answer)

    async def _timed(self, inputs: Tensors, rows: int, deadline: Deadline, *, calls: int) -> Answer:
        self._observe(calls)
        start = self._clock()
        answer = await self._run(inputs, rows, deadline)
        self._costs.learn(rows, self._clock() - start)
        return answer


async def worthwhile(call: Callable[[Tensors], Awaitable[object]], rows: Tensors, max_rows: int) -> bool:
    """Measure whether several rows take less together than one by one; `rows` are valid rows."""
    if max_rows < _TRIED_ROWS:
        return False

    async def seconds(count: int) -> float:
        batch = {name: np.resize(tensor, (count, *tensor.shape[1:])) for name, tensor in rows.items()}
        times = []
        for _ in range(_TRIES):
            start = time.perf_counter()
            await call(batch)
            times.append(time.perf_counter() - start)
        return min(times)

    return await seconds(_TRIED_ROWS) < _WORTHWHILE * _TRIED_ROWS * await seconds(1)


def _fail(call: _Waiting, error: Exception) -> None:
    if not call.answer.done():
        call.answer.set_exception(_late(call.deadline) if isinstance(error, DeadlineExceeded) else error)


def _late(deadline: Deadline) -> DeadlineExceeded:
    return DeadlineExceeded(f"the deadline of {deadline.timeout:.3f} s passed before the model had answered.")
