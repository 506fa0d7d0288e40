"""Load for the container tests; runs in a container of the server's image, with the client that callers install.

Asks until SIGTERM, then prints one line of JSON: how many calls were answered, by which digest, how many failed and
how, how many answers were not those of the version that gave them, and the longest time without any answer and
the moment when it ended. Until then it says on standard error how many calls were answered, every REPORT_EVERY calls.
Usage: python load.py TARGET CALLERS [OPTION ...] < known.json, where known.json maps a digest to inputs and expected
outputs, and each OPTION is a channel option to go without, so that a test can show what it is there for. Without
EVERYTHING it is a plain gRPC client, and with ROUND_ROBIN one that balances, as gRPC's own documentation shows it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
from serving_client import AsyncClient, Prediction, ServingClientError, aio, channel

TIMEOUT_S = 10.0
REPORT_EVERY = 10


class Tally:
    """Count what came back."""

    def __init__(self, known: dict[str, dict[str, dict[str, list[Any]]]]) -> None:
        self.known = known
        self.answers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.defaulted = 0
        self.wrong = 0
        self.took: list[float] = []
        self.gaps: list[tuple[float, float]] = []
        self._last = time.monotonic()

    def answered(self, prediction: Prediction, took: float) -> None:
        """Compare an answer with that of the version that says it gave it."""
        now = time.monotonic()
        self.gaps.append((now - self._last, time.time()))
        self._last = now
        self.took.append(took)
        self.answers[prediction.artifact_digest] += 1
        if len(self.took) % REPORT_EVERY == 0:
            print(len(self.took), file=sys.stderr, flush=True)
        if prediction.defaulted:
            self.defaulted += 1
            return
        for name, expected in self.known[prediction.artifact_digest]["outputs"].items():
            if not np.allclose(prediction[name], expected, rtol=1e-4):
                self.wrong += 1

    def summary(self) -> dict[str, object]:
        """Return all counts, and seconds."""
        return {
            "answers": self.answers,
            "failures": self.failures,
            "defaulted": self.defaulted,
            "wrong": self.wrong,
            "longest_gap": max(self.gaps, default=None),
            "p99_s": round(float(np.quantile(self.took, 0.99)), 4) if self.took else None,
            "max_s": round(max(self.took, default=0.0), 4),
        }


async def main(target: str, callers: int) -> None:
    """Ask from `callers` tasks until SIGTERM."""
    tally = Tally(json.load(sys.stdin))
    inputs = next(iter(tally.known.values()))["inputs"]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def caller(client: AsyncClient) -> None:
        while not stop.is_set():
            start = time.monotonic()
            try:
                tally.answered(await client.predict(inputs, timeout=TIMEOUT_S), time.monotonic() - start)
            except ServingClientError as error:
                tally.failures[f"{error.code}: {str(error)[:80]}"] += 1
            await asyncio.sleep(0.02)  # a rate limit, not a wait: 50 calls a second from each caller

    async with AsyncClient(target) as client:
        await client.wait_ready(timeout=60.0)
        await asyncio.gather(*(caller(client) for _ in range(callers)))
    print(json.dumps(tally.summary()), flush=True)


if __name__ == "__main__":
    without = set(sys.argv[3:])
    plain = bool(without & {"EVERYTHING", "ROUND_ROBIN"})
    balanced = (("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),)
    for name in ("OPTIONS", "WITH_RETRIES"):
        kept = tuple(option for option in getattr(channel, name) if option[0] not in without and not plain)
        kept += balanced if "ROUND_ROBIN" in without else ()
        setattr(channel, name, kept)
        setattr(aio, name, kept)
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
