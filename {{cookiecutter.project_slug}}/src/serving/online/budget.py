"""The memory budget: how much the requests, the model's work and the last known values may take together.

It is computed at start, from the container's limit and what the process occupies with the model loaded. Of the rest, a
tenth is for the bytes of the requests that are held: parsed and turned into arrays, each takes up to four times as much
again. A quarter is for the model's work, an eighth for last known values, a 32nd for the queue of the prediction log.
gRPC and the allocator get what remains.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from serving.domain.errors import SettingsError
from serving.domain.tensors import Tensors, TensorSpec, row_bytes
from serving.online import memory

_USABLE = 0.9
_REQUESTS, _MODEL, _LAST_KNOWN, _LOG = 1 / 10, 1 / 4, 1 / 8, 1 / 32
_UNKNOWN_LIMIT = 4 << 30
_NOISE = 1 << 20  # an allocator grows by pieces
_BATCHES = (1, 2, 4, 8)
_MB = 1 << 20


@dataclass(frozen=True)
class Budget:
    """Share out the bytes of one process; `row_work` is what the model needs for one row besides the request."""

    limit: int
    occupied: int
    row_request: int = 1
    row_work: int = 0
    concurrency: int = 1

    @property
    def free(self) -> int:
        """What is left to share."""
        return max(0, int(self.limit * _USABLE) - self.occupied)

    @property
    def requests(self) -> int:
        """How many bytes the requests may have that are held at once."""
        return int(self.free * _REQUESTS)

    @property
    def last_known(self) -> int:
        """How many bytes the last known values may take."""
        return int(self.free * _LAST_KNOWN)

    @property
    def prediction_log(self) -> int:
        """How many bytes may wait for the thread of the prediction log, which needs as much again to write them."""
        return int(self.free * _LOG)

    @property
    def rows(self) -> int:
        """How many rows one call may have."""
        by_work = int(self.free * _MODEL) // (self.row_work * self.concurrency) if self.row_work else self.requests
        return min(self.requests // self.row_request, by_work)

    def choose_rows(self, wanted: int, *, explicit: bool) -> int:
        """Return the largest batch: as many rows as wanted, or as fit if nobody asked for so many.

        :raises SettingsError: not even one row fits, or not as many as were asked for
        """
        if self.rows >= wanted:
            return wanted
        fault = (
            f"{self.limit // _MB} MB of memory are too little: {self.occupied // _MB} MB are occupied, and for one row "
            f"the request has up to {self.row_request / _MB:.1f} MB and the model takes {self.row_work / _MB:.1f} MB"
        )
        if not self.rows:
            raise SettingsError(f"{fault}; raise the container's limit (mem_limit in compose/base.yaml).")
        if explicit:
            raise SettingsError(
                f"SERVING_MAX_ROWS={wanted}: {fault}; set at most {self.rows}, or raise the container's limit "
                "(mem_limit in compose/base.yaml)."
            )
        return self.rows


def before_the_model_ran(inputs: Sequence[TensorSpec]) -> Budget:
    """Return the budget of a process that has loaded its model."""
    limit = memory.limit() or _UNKNOWN_LIMIT
    return Budget(limit, memory.resident() or 0, sum(row_bytes(spec) for spec in inputs))


async def work_of_a_row(call: Callable[[Tensors], Awaitable[object]], rows: Tensors, most: int) -> int:
    """Measure how many bytes the model needs for one row, on batches that grow to 8 rows or `most`.

    :return: 0 where the system doesn't say
    """
    peaks: list[tuple[int, int]] = []
    for count in _BATCHES:
        if count > most or not memory.reset_peak():
            break
        await call({name: np.resize(tensor, (count, *tensor.shape[1:])) for name, tensor in rows.items()})
        peaks.append((count, memory.peak() or 0))
    if len(peaks) < 2 or peaks[-1][1] - peaks[0][1] < _NOISE:
        return 0
    return (peaks[-1][1] - peaks[0][1]) // (peaks[-1][0] - peaks[0][0])
