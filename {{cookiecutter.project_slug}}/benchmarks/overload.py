"""Offer the server more than it can do, and count what it answers in time: `python -m benchmarks.overload`.

The runtime is the real one, and its model takes 5, 20 or 100 ms. Calls arrive at random moments, whether or not earlier
ones have been answered, so the load doesn't give way as the server slows down. Goodput is the rate of calls answered in
time, as a share of the rate at which two callers who wait for their answers get them, measured just before.

The model takes as long for many rows as for one, so batches would answer many times as much: they are off.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.domain.tensors import Datatype
from tests.platform.support.artifacts import slow
from tests.platform.support.server import ServerProcess
from tests.platform.support.wire import request

SERVICE_MS = (5.0, 20.0, 100.0)
DEADLINES_S = (0.3, 0.5, 2.0)
FACTORS = (2, 5)
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_LONG_S = 30.0
_PROBE_S = 0.1


class Load:
    """Send requests to one server from this process."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_INFER)
        self._health = health_pb2_grpc.HealthStub(channel)

    async def steps_for(self, milliseconds: float) -> int:
        """Return the steps of a call that takes so long."""
        steps = 1000
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(3):
                await self._call(body(steps), timeout=_LONG_S)
            steps = max(1, int(steps * milliseconds / 1e3 / ((time.perf_counter() - start) / 3)))
        return steps

    async def capacity(self, steps: int, seconds: float) -> float:
        """Return the calls per second that two callers get answered, each of whom waits for its answer."""
        answered = 0
        end = time.perf_counter() + seconds

        async def caller() -> None:
            nonlocal answered
            while time.perf_counter() < end:
                await self._call(body(steps), timeout=_LONG_S)
                answered += 1

        await asyncio.gather(caller(), caller())
        return answered / seconds

    async def offer(self, steps: int, rate: float, deadline: float, seconds: float) -> tuple[list[float], float, int]:
        """Offer calls; return the seconds of those answered in time, their rate, and the number of unanswered probes.

        An answer that comes after the last call was sent counts for no rate.
        """
        took: list[float] = []
        answered: list[float] = []
        failed_probes = 0

        async def one() -> None:
            start = time.perf_counter()
            try:
                await self._call(body(steps), timeout=deadline)
            except grpc.RpcError:
                return
            answered.append(time.perf_counter())
            took.append(answered[-1] - start)

        async def probe() -> None:
            nonlocal failed_probes
            while True:
                try:
                    await self._health.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
                except grpc.RpcError:
                    failed_probes += 1
                await asyncio.sleep(_PROBE_S)

        probing = asyncio.create_task(probe())
        source = random.Random(7)  # noqa: S311 - moments of arrival, no secret
        begin = time.perf_counter()
        moment, calls = 0.0, []
        while moment < seconds:
            if (wait := begin + moment - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            calls.append(asyncio.create_task(one()))
            moment += source.expovariate(rate)
        end = time.perf_counter()
        await asyncio.gather(*calls)
        probing.cancel()
        return took, sum(moment <= end for moment in answered) / (end - begin), failed_probes


def body(steps: int) -> bytes:
    """Return a request of one row."""
    return bytes(request("slow", {"steps": [steps]}, datatypes={"steps": Datatype.INT64}).SerializeToString())


async def measure(target: str, seconds: float, kinds: Sequence[float]) -> None:
    """Measure every cell and print a table."""
    print("   ms  deadline  offered  capacity/s  good/s  goodput   p50 ms   p99 ms  probes lost")
    async with grpc.aio.insecure_channel(target) as channel:
        load = Load(channel)
        for milliseconds in kinds:
            steps = await load.steps_for(milliseconds)
            for deadline in DEADLINES_S:
                for factor in FACTORS:
                    capacity = await load.capacity(steps, max(1.0, 20 * milliseconds / 1e3))
                    took, good, lost = await load.offer(steps, factor * capacity, deadline, seconds)
                    cuts = statistics.quantiles(took, n=100) if len(took) > 1 else [0.0] * 99
                    print(
                        f"{milliseconds:>5.0f} {deadline:>9.1f} {factor:>7}x {capacity:>11.1f} {good:>7.1f} "
                        f"{good / capacity:>8.0%} {cuts[49] * 1e3:>8.0f} {cuts[98] * 1e3:>8.0f} {lost:>12}",
                        flush=True,
                    )


def main() -> int:
    """Serve the slow model with the default settings, and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one cell")
    parser.add_argument("--batching", choices=["on", "off", "auto"], default="off", help="see SERVING_BATCHING")
    parser.add_argument("--milliseconds", type=float, nargs="+", default=SERVICE_MS, help="of a model call")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slow().lay_out(Path(folder))
        with ServerProcess(Path(folder), SERVING_BATCHING=options.batching) as server:
            asyncio.run(measure(server.target, options.seconds, options.milliseconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
