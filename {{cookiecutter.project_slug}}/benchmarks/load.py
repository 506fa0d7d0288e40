"""Measure your model's server beside a bare gRPC echo server: `make bench`.

First with more and more callers, then with more and more rows in a call, then with calls sent by the clock. The tables
are printed, and written with their curves into build/bench.

The echo server is the floor: the cost of gRPC in Python, with the same load generator, at the same time. Compare the
ratio to the floor between machines, not milliseconds. Callers run a closed loop: each sends its next request after the
answer to the last. Both servers are measured in turn, several times. Calls sent by the clock don't wait for answers;
they cost more CPU than calls that come in a row, since the server sleeps in between. `make sizing` plans with them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc
import numpy as np
from tqdm import tqdm

from benchmarks.chart import chart
from serving.domain.artifacts import Artifact, artifact_folder, open_artifact
from serving.domain.errors import OperatorError
from serving.domain.tensors import Datatype
from serving.offline import project
from serving.offline.bootstrap import fetch, open_registry
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.settings import Settings, load_settings

CALLERS = (1, 2, 4, 8, 16, 32, 64)
ROWS = (1, 10, 100, 1000, 10_000)
SHARES = (0.05, 0.1, 0.2, 0.4)
"""Loads of calls by the clock, as shares of the highest rate that the callers reached."""
FOLDER = project.ROOT / "build" / "bench"
INFER = "/inference.GRPCInferenceService/ModelInfer"
_METADATA = "/inference.GRPCInferenceService/ModelMetadata"
_TIMEOUT_S = 30.0
_ANY_SIZE = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True)
class Figures:
    """Hold one measurement: seconds per call, calls per second, failed calls, the server's CPU seconds per call."""

    p50: float
    p99: float
    rate: float
    failed: int
    cpu: float


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    parser.add_argument("--callers", type=int, nargs="+", default=CALLERS, help="numbers of callers")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="numbers of rows in one call")
    options = parser.parse_args()
    artifact = pinned()
    with process("-m", "serving") as service, process("-m", "benchmarks.echo") as echo:
        idle = service.memory_mb()
        print(f"ready after {service.ready_s:.2f} s, {idle:.0f} MB idle; {options.rounds} rounds, medians")
        bench = Bench(artifact, service, echo, options.seconds, options.rounds)
        by_callers = bench.by_callers(sorted(options.callers))
        by_rows = bench.by_rows(sorted(options.rows))
        by_clock = bench.by_clock(max(point.ours.rate for point in by_callers))
        print(f"{service.memory_mb():.0f} MB after that")
    _write(by_callers, by_rows, by_clock)
    print(f"wrote {FOLDER.relative_to(project.ROOT)}: figures.json, callers.svg, rows.svg")
    return 0


def pinned() -> Artifact:
    """Fetch and open the pinned version."""
    settings = load_settings()
    reference = settings.reference()
    fetch(reference, open_registry(reference.scheme, project.REGISTRY), settings.artifacts)
    return open_artifact(artifact_folder(settings.artifacts, reference.digest), reference.digest)


@dataclass(frozen=True)
class Bench:
    """Measure one server beside the floor."""

    artifact: Artifact
    service: Server
    echo: Server
    seconds: float
    rounds: int

    def by_callers(self, counts: Sequence[int]) -> list[Point]:
        """Measure calls of one row with each number of callers; print a table."""
        request = asyncio.run(make_request(self.service.target, self.artifact, 1))
        print(f"one row a call, {len(request)} bytes")
        print("callers   p50 ms   p99 ms  calls/s  failed  CPU us/call  echo calls/s  of floor")
        points = []
        for callers in tqdm(counts, unit="point", disable=None, leave=False):
            ours, floor, share = self._beside(request, callers)
            points.append(Point(callers, ours, floor))
            tqdm.write(
                f"{callers:>7} {ours.p50 * 1e3:>8.2f} {ours.p99 * 1e3:>8.2f} {ours.rate:>8.0f} {ours.failed:>7} "
                f"{ours.cpu * 1e6:>12.0f} {floor.rate:>13.0f} {share:>9.0%}"
            )
        return points

    def by_rows(self, counts: Sequence[int]) -> list[Point]:
        """Measure one caller with each number of rows in a call, as far as the server takes it; print a table."""
        most = asyncio.run(max_rows(self.service.target, self.artifact))
        print("one caller\n   rows   p50 ms   p99 ms     rows/s  us a row  CPU us/call  of floor")
        points = []
        for rows in tqdm(sorted({min(count, most) for count in counts}), unit="point", disable=None, leave=False):
            request = asyncio.run(make_request(self.service.target, self.artifact, rows))
            ours, floor, share = self._beside(request, 1)
            points.append(Point(rows, ours, floor))
            tqdm.write(
                f"{rows:>7} {ours.p50 * 1e3:>8.2f} {ours.p99 * 1e3:>8.2f} {ours.rate * rows:>10.0f} "
                f"{ours.p50 / rows * 1e6:>9.1f} {ours.cpu * 1e6:>12.0f} {share:>9.0%}"
            )
        if most < max(counts):
            print(f"this server takes at most {most} rows in a call (SERVING_MAX_ROWS)")
        return points

    def by_clock(self, most: float) -> list[Figures]:
        """Measure calls of one row at shares of `most` calls per second, sent by the clock; print a table."""
        request = asyncio.run(make_request(self.service.target, self.artifact, 1))
        print("one row a call, sent by the clock\ncalls/s   p50 ms   p99 ms  failed  CPU us/call  of a core")
        points = []
        for share in tqdm(SHARES, unit="point", disable=None, leave=False):
            measured = [
                asyncio.run(_measure_by_clock(self.service, request, most * share, 2 * self.seconds))
                for _ in range(self.rounds)
            ]
            point = _median(measured)
            points.append(point)
            tqdm.write(
                f"{point.rate:>7.0f} {point.p50 * 1e3:>8.2f} {point.p99 * 1e3:>8.2f} {point.failed:>7} "
                f"{point.cpu * 1e6:>12.0f} {point.rate * point.cpu:>10.0%}"
            )
        return points

    def _beside(self, request: bytes, callers: int) -> tuple[Figures, Figures, float]:
        """Return what ours and the floor did, and the ratio of their rates."""
        rounds = [
            [asyncio.run(_measure(server, request, callers, self.seconds)) for server in (self.service, self.echo)]
            for _ in range(self.rounds)
        ]
        ours, floor = (_median(list(side)) for side in zip(*rounds, strict=True))
        return ours, floor, statistics.median(served.rate / echoed.rate for served, echoed in rounds)


@dataclass(frozen=True)
class Point:
    """Hold the figures for one number of callers or rows."""

    count: int
    ours: Figures
    floor: Figures


def _write(by_callers: Sequence[Point], by_rows: Sequence[Point], by_clock: Sequence[Figures]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    figures = {"machine": machine, "by_callers": by_callers, "by_rows": by_rows, "by_clock": by_clock}
    (FOLDER / "figures.json").write_text(json.dumps(figures, indent=2, default=asdict) + "\n", encoding="utf-8")
    rates = {
        "this server": [(point.count, point.ours.rate) for point in by_callers],
        "bare gRPC echo": [(point.count, point.floor.rate) for point in by_callers],
    }
    times = {"one call, p50": [(point.count, point.ours.p50 * 1e3) for point in by_rows]}
    for name, picture in (
        ("callers.svg", chart("Calls per second", "callers", "calls/s", rates)),
        ("rows.svg", chart("Time of a call", "rows in a call", "ms", times)),
    ):
        (FOLDER / name).write_text(picture, encoding="utf-8")


async def _measure(server: Server, request: bytes, callers: int, seconds: float) -> Figures:
    async with opened(server, request) as calls:
        cpu, end = server.cpu_s(), time.perf_counter() + seconds

        async def caller() -> None:
            while time.perf_counter() < end:
                await calls.one()

        await asyncio.gather(*(caller() for _ in range(callers)))
        return calls.figures(seconds, server.cpu_s() - cpu)


async def _measure_by_clock(server: Server, request: bytes, rate: float, seconds: float) -> Figures:
    async with opened(server, request) as calls:
        cpu, began = server.cpu_s(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(max(1, round(rate * seconds))):
                await asyncio.sleep(began + number / rate - time.perf_counter())
                group.create_task(calls.one())
        return calls.figures(time.perf_counter() - began, server.cpu_s() - cpu)


@asynccontextmanager
async def opened(server: Server, request: bytes) -> AsyncIterator[Calls]:
    """Give calls on a new channel, which one call has opened.

    :raises OperatorError: the server does not answer that call
    """
    # Both servers get and give large messages here: 10,000 rows are more than gRPC's 4 MB.
    async with grpc.aio.insecure_channel(server.target, options=_ANY_SIZE) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(INFER)
        try:
            await call(request, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise OperatorError(f"the server does not answer the bench: {error.details()}") from None
        yield Calls(call, request)


@dataclass
class Calls:
    """Send one request again and again, and keep how long the answers took."""

    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
    request: bytes
    took: list[float] = field(default_factory=list)
    failed: int = 0

    async def one(self) -> None:
        """Send the request and wait for its answer."""
        start = time.perf_counter()
        try:
            await self.call(self.request, timeout=_TIMEOUT_S)
        except grpc.RpcError:
            self.failed += 1
        else:
            self.took.append(time.perf_counter() - start)

    def figures(self, seconds: float, cpu: float) -> Figures:
        """Return the figures of calls that took `seconds` in all, and `cpu` seconds of the server."""
        answers = len(self.took)
        cuts = statistics.quantiles(self.took, n=100) if answers > 1 else [max(self.took, default=math.nan)] * 99
        return Figures(cuts[49], cuts[98], answers / seconds, self.failed, cpu / max(1, answers))


def _median(rounds: list[Figures]) -> Figures:
    return Figures(
        statistics.median(figures.p50 for figures in rounds),
        statistics.median(figures.p99 for figures in rounds),
        statistics.median(figures.rate for figures in rounds),
        sum(figures.failed for figures in rounds),
        statistics.median(figures.cpu for figures in rounds),
    )


async def max_rows(target: str, artifact: Artifact) -> int:
    """Return how many rows the server takes in a call."""
    async with grpc.aio.insecure_channel(target) as channel:
        describe: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_METADATA)
        body = pb.ModelMetadataRequest(name=artifact.manifest.model).SerializeToString()
        answer = pb.ModelMetadataResponse.FromString(await describe(body, timeout=_TIMEOUT_S))
    return int(answer.properties["max_rows"])


async def make_request(target: str, artifact: Artifact, rows: int) -> bytes:
    """Return the bytes of a request with golden rows, repeated to the wanted number, contents raw."""
    golden, name = artifact.golden, artifact.manifest.model
    known = {artifact.manifest.features.entity.name: golden.entities, **golden.inputs}
    request = pb.ModelInferRequest(model_name=name)
    async with grpc.aio.insecure_channel(target) as channel:
        describe: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_METADATA)
        answer = await describe(pb.ModelMetadataRequest(name=name).SerializeToString(), timeout=_TIMEOUT_S)
    for spec in pb.ModelMetadataResponse.FromString(answer).inputs:
        values = [known[spec.name][row % len(golden.entities)] for row in range(rows)]
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=[rows, *spec.shape[1:]])
        if Datatype(spec.datatype).holds_bytes:
            raw = b"".join(len(value).to_bytes(4, "little") + value.encode() for value in values)
        else:
            raw = np.asarray(values, Datatype(spec.datatype).dtype).tobytes()
        request.raw_input_contents.append(raw)
    return request.SerializeToString()


@dataclass(frozen=True)
class Server:
    """A running server."""

    pid: int
    target: str
    ready_s: float
    ports: Mapping[str, int]

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used (Linux only)."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            return math.nan
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Return the resident memory in MB (Linux only)."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        except OSError:
            return float("nan")
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def process(*arguments: str, **variables: str) -> Iterator[Server]:
    """Run a server that logs its port, until the block ends."""
    free = {f"SERVING_{name.upper()}": "0" for name in Settings.model_fields if name.endswith("_port")}
    environment = os.environ | free | {"SERVING_LOG_LEVEL": "INFO"} | variables
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        for line in child.stderr or ():
            record = json.loads(line) if line.startswith("{") else {}
            if "grpc_port" in record:
                ports = {name: int(value) for name, value in record.items() if name.endswith("_port")}
                yield Server(child.pid, f"127.0.0.1:{ports['grpc_port']}", time.perf_counter() - start, ports)
                return
        raise OperatorError(f"{' '.join(arguments)} did not start; run it alone to see why.")
    finally:
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=_TIMEOUT_S)


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
