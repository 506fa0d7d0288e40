"""Traffic like the training data, for a generated repo's service: run by benchmarks.dashboard with the repo's Python.

The argument is the service's address. Each line of the standard input is how far the first measurement is shifted from
now on, in standard deviations.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time

import numpy as np
from serving_client import Client, ServingClientError

from model.data import load  # type: ignore[import-not-found]

CALLERS, CALLS_PER_SECOND = 4, 10
ROWS = 2


class Traffic:
    """Calls at a steady rate until the standard input ends."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._rows = load()
        self._shift = 0.0
        self._ended = threading.Event()
        with Client(self._target) as client:
            self._inputs = [tensor.name for tensor in client.metadata(timeout=10.0).inputs]
        self._first = next(name for name in self._inputs if name in self._rows.columns)

    def run(self) -> None:
        """Call, and take new shifts, until the standard input ends."""
        callers = [threading.Thread(target=self._call, args=(seed,)) for seed in range(CALLERS)]
        for caller in callers:
            caller.start()
        for line in sys.stdin:
            self._shift = float(line)
        self._ended.set()
        for caller in callers:
            caller.join()

    def _call(self, seed: int) -> None:
        chance = np.random.default_rng(seed)
        began = time.monotonic()
        with Client(self._target) as client:
            for number in itertools.count(1):
                row = chance.integers(len(self._rows), size=ROWS)
                values = {name: column[row] for name, column in self._rows.columns.items() if name in self._inputs}
                shift = np.float32(self._shift * self._rows.columns[self._first].std())
                values[self._first] = values[self._first] + shift
                (key,) = set(self._inputs) - set(values)
                try:
                    client.predict({key: [self._rows.entities[one] for one in row], **values}, timeout=1.0)
                except ServingClientError as error:
                    print(error, flush=True)
                if self._ended.wait(max(0.0, began + number * CALLERS / CALLS_PER_SECOND - time.monotonic())):
                    return


if __name__ == "__main__":
    Traffic(*sys.argv[1:]).run()
