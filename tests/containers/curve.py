"""An open-loop load that follows a curve; runs in a container of the server's image.

`python curve.py TARGET SECONDS BEGIN END [SECONDS BEGIN END ...] < known.json`: calls a second at the begin and the end
of each part. Calls are sent by the clock, whether earlier ones were answered or not. Prints one line when it begins,
and a table and the sum at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator

from serving_client import AsyncClient, ServingClientError

TIMEOUT_S = 2.0
EVERY_S = 30.0
CLIENTS = 8
"""Each with a connection to every replica, as the callers of a fleet have."""


def moments(parts: list[tuple[float, float, float]]) -> Iterator[float]:
    """Give the second of each call."""
    start = 0.0
    for seconds, begin, end in parts:
        at = 0.0
        while at < seconds:
            yield start + at
            at += 1 / max(0.1, begin + (end - begin) * at / seconds)
        start += seconds


async def main(target: str, parts: list[tuple[float, float, float]]) -> None:
    """Call along the curve and print a table."""
    inputs = next(iter(json.load(sys.stdin).values()))["inputs"]
    one = {name: values[:1] for name, values in inputs.items()}
    sent: Counter[int] = Counter()
    good: Counter[int] = Counter()
    failures: Counter[str] = Counter()
    clients = [AsyncClient(target) for _ in range(CLIENTS)]
    for client in clients:
        await client.wait_ready(timeout=60.0)

    async def call(client: AsyncClient, window: int) -> None:
        sent[window] += 1
        try:
            await client.predict(one, timeout=TIMEOUT_S)
        except ServingClientError as error:
            failures[str(error.code)] += 1
        else:
            good[window] += 1

    print("begins", flush=True)
    began = time.monotonic()
    running: set[asyncio.Task[None]] = set()
    for number, moment in enumerate(moments(parts)):
        wait = began + moment - time.monotonic()
        if wait > 0 or number % 50 == 0:
            await asyncio.sleep(max(0.0, wait))
        task = asyncio.create_task(call(clients[number % CLIENTS], int(moment / EVERY_S)))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    took = time.monotonic() - began
    print("seconds  calls/s  answered in time")
    for window in sorted(sent):
        print(f"{window * EVERY_S:>7.0f} {sent[window] / EVERY_S:>8.0f} {good[window] / sent[window]:>16.1%}")
    total, answered = sum(sent.values()), sum(good.values())
    print(f"{total / took:.1f} calls a second, {answered / total:.2%} of {total} answered within {TIMEOUT_S:.0f} s")
    print(f"failures: {dict(failures)}")
    for client in clients:
        await client.close()


if __name__ == "__main__":
    numbers = [float(word) for word in sys.argv[2:]]
    asyncio.run(main(sys.argv[1], list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))))
