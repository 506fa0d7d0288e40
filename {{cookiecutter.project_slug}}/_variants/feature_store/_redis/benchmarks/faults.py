"""Measure what callers see while the feature store fails under load.

    python -m benchmarks.faults

Needs a trained version and a container engine: it starts a Redis and breaks it. Callers run a closed loop, with a pause
after each answer, while the store is frozen, killed, restarted empty and slowed, and recovers each time. An answer is
wrong if it differs from the model's output for the stored values with defaults in exactly the flagged rows. The limits
hold on an idle machine; on a busy one look at the counts first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.faulty_redis import FAULTS, running
from benchmarks.load import process
from serving.adapters.feature_store.breaker import PAUSE_S
from serving.adapters.runtime import load_runtime
from serving.domain.artifacts import Artifact, artifact_folder, open_artifact
from serving.domain.tensors import Tensors
from serving.offline import project
from serving.offline.bootstrap import fetch, open_registry
from serving.online.settings import load_settings
from serving_client import AsyncClient, Prediction, ServingClientError

MAX_ADDED_MS = 60
MAX_BACK_S = PAUSE_S + 0.5
_WARM_UP_S = 1.0
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Call:
    """One call: times and result."""

    start: float
    end: float
    failed: bool = False
    wrong: bool = False
    flagged: bool = False


class Callers:
    """Predict the golden rows, and compare each answer with the expected one for its flags."""

    def __init__(self, client: AsyncClient, artifact: Artifact) -> None:
        self._client, self._artifact = client, artifact
        self._model = load_runtime(artifact, threads=1)
        features, golden = artifact.manifest.features, artifact.golden_inputs()
        self._defaults = {feature.name: feature.default_value for feature in features.static}
        keys = {features.entity.name: np.array(artifact.golden.entities, object)}
        self._inputs = keys | {feature.name: golden[feature.name] for feature in features.real_time}
        self._expected: dict[str, Tensors] = {}
        self.calls: list[Call] = []

    async def ask(self, pause: float) -> None:
        """Call until cancelled."""
        while True:
            start = time.perf_counter()
            try:
                answer = await self._client.predict(self._inputs, timeout=_TIMEOUT_S)
            except ServingClientError:
                self.calls.append(Call(start, time.perf_counter(), failed=True))
            else:
                end = time.perf_counter()
                flagged = bool(answer.defaulted or answer.last_known)
                self.calls.append(Call(start, end, wrong=not await self._right(answer), flagged=flagged))
            await asyncio.sleep(pause)

    async def _right(self, answer: Prediction) -> bool:
        flags = repr(sorted(answer.defaulted.items()))
        if flags not in self._expected:
            inputs = {name: values.copy() for name, values in self._artifact.golden_inputs().items()}
            for name, rows in answer.defaulted.items():
                inputs[name][list(rows)] = self._defaults[name]
            self._expected[flags] = await self._model.predict(inputs, timeout=_TIMEOUT_S)
        return all(np.allclose(answer[name], values, rtol=1e-4) for name, values in self._expected[flags].items())


async def measure(artifact: Artifact, callers: int, pause: float, seconds: float) -> None:
    """Cause each fault once, and print a line for it and for the recovery."""
    async with AsyncExitStack() as stack:
        store, url = await stack.enter_async_context(running())
        # In a thread: the server's first read passes through this loop.
        serving = process("-m", "serving", SERVING_FEATURE_STORE=url, SERVING_STORE_UNAVAILABLE="default")
        server = await asyncio.to_thread(serving.__enter__)
        stack.push_async_callback(asyncio.to_thread, serving.__exit__, None, None, None)
        client = await stack.enter_async_context(AsyncClient(server.target))
        load = Callers(client, artifact)
        marks: list[tuple[str, float]] = []
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(load.ask(pause)) for _ in range(callers)]
            await asyncio.sleep(_WARM_UP_S)
            for fault in ("", *FAULTS):
                if fault:
                    marks.append((fault, time.perf_counter()))
                    await store.fail(fault)
                    await asyncio.sleep(seconds)
                    await store.recover(fault)
                marks.append(("  back" if fault else "steady", time.perf_counter()))
                await asyncio.sleep(seconds)
            marks.append(("", time.perf_counter()))
            for task in asking:
                task.cancel()
    table(load.calls, marks)


def table(calls: Sequence[Call], marks: Sequence[tuple[str, float]]) -> None:
    """Print what happened between the marks; the first time is the one to compare with."""
    print("phase   calls  failed  wrong  flagged  p50 ms  p99 ms  added p99 ms  first real s")
    floor = 0.0
    for (name, start), (_, end) in pairwise(marks):
        now = [call for call in calls if start <= call.start < end]
        cuts = statistics.quantiles([(call.end - call.start) * 1e3 for call in now], n=100)
        floor = floor or cuts[98]
        line = f"{name:7} {len(now):>5} {sum(c.failed for c in now):>7} {sum(c.wrong for c in now):>6} "
        line += f"{sum(c.flagged for c in now):>8} {cuts[49]:>7.1f} {cuts[98]:>7.1f} {cuts[98] - floor:>13.1f}"
        if name == "  back":
            real = [call.end - start for call in now if not call.flagged and not call.failed]
            line += f" {min(real, default=float('inf')):>13.2f}"
        print(line)
    print(f"limits: none wrong, {MAX_ADDED_MS} ms added, back after {MAX_BACK_S} s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one phase")
    parser.add_argument("--callers", type=int, default=8, help="number of concurrent callers")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds that a caller pauses after an answer")
    options = parser.parse_args(arguments)
    settings = load_settings()
    reference = settings.reference()
    fetch(reference, open_registry(reference.scheme, project.REGISTRY), settings.artifacts)
    artifact = open_artifact(artifact_folder(settings.artifacts, reference.digest), reference.digest)
    asyncio.run(measure(artifact, options.callers, options.pause, options.seconds))
    return 0


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(lambda: main(sys.argv[1:]))
