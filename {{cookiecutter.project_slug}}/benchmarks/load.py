"""Load-test the server with 1, 8 and 64 callers, beside a bare gRPC echo server: `make bench`.

The echo server is the floor: the cost of gRPC in Python, with the same load generator, at the same time. Compare the
ratio to the floor between machines, not milliseconds. Callers run a closed loop: each sends its next request after the
answer to the last. Both servers are measured in turn, several times.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from serving.domain.artifacts import Artifact, artifact_folder, open_artifact
from serving.domain.errors import OperatorError
from serving.domain.tensors import Datatype
from serving.offline import project
from serving.offline.bootstrap import fetch, open_registry
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.settings import load_settings

CALLERS = (1, 8, 64)
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_METADATA = "/inference.GRPCInferenceService/ModelMetadata"
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Figures:
    """Hold one measurement: seconds per call, calls per second, failed calls."""

    p50: float
    p99: float
    rate: float
    failed: int


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    parser.add_argument("--rows", type=int, default=1, help="rows in one request")
    options = parser.parse_args()
    settings = load_settings()
    reference = settings.reference()
    fetch(reference, open_registry(reference.scheme, project.REGISTRY), settings.artifacts)
    artifact = open_artifact(artifact_folder(settings.artifacts, reference.digest), reference.digest)
    with process("-m", "serving") as service, process("-m", "benchmarks.echo") as echo:
        print(f"ready after {service.ready_s:.2f} s, {service.memory_mb():.0f} MB idle")
        request = asyncio.run(_request(service.target, artifact, options.rows))
        print(f"{options.rows} row(s), {len(request)} bytes, {options.rounds} rounds of {options.seconds} s, medians")
        print("callers   p50 ms   p99 ms  calls/s  failed  echo calls/s  of floor")
        for callers in CALLERS:
            rounds = [
                [asyncio.run(_measure(server.target, request, callers, options.seconds)) for server in (service, echo)]
                for _ in range(options.rounds)
            ]
            ours, floor = (_median(list(side)) for side in zip(*rounds, strict=True))
            share = statistics.median(served.rate / echoed.rate for served, echoed in rounds)
            print(
                f"{callers:>7} {ours.p50 * 1e3:>8.2f} {ours.p99 * 1e3:>8.2f} {ours.rate:>8.0f} {ours.failed:>7} "
                f"{floor.rate:>13.0f} {share:>9.0%}"
            )
    return 0


async def _measure(target: str, request: bytes, callers: int, seconds: float) -> Figures:
    async with grpc.aio.insecure_channel(target) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_INFER)
        await call(request, timeout=_TIMEOUT_S)
        took: list[float] = []
        failed = 0
        end = time.perf_counter() + seconds

        async def caller() -> None:
            nonlocal failed
            while (start := time.perf_counter()) < end:
                try:
                    await call(request, timeout=_TIMEOUT_S)
                except grpc.RpcError:
                    failed += 1
                else:
                    took.append(time.perf_counter() - start)

        await asyncio.gather(*(caller() for _ in range(callers)))
    cuts = statistics.quantiles(took, n=100)
    return Figures(cuts[49], cuts[98], len(took) / seconds, failed)


def _median(rounds: list[Figures]) -> Figures:
    return Figures(
        statistics.median(figures.p50 for figures in rounds),
        statistics.median(figures.p99 for figures in rounds),
        statistics.median(figures.rate for figures in rounds),
        sum(figures.failed for figures in rounds),
    )


async def _request(target: str, artifact: Artifact, rows: int) -> bytes:
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

    def memory_mb(self) -> float:
        """Return the resident memory in bytes (Linux only)."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        except OSError:
            return float("nan")
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def process(*arguments: str, **variables: str) -> Iterator[Server]:
    """Run a server that logs its port, until the block ends."""
    ports = {"SERVING_GRPC_PORT": "0", "SERVING_METRICS_PORT": "0"}
    environment = os.environ | ports | {"SERVING_LOG_LEVEL": "INFO"} | variables
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        for line in child.stderr or ():
            record = json.loads(line) if line.startswith("{") else {}
            if "grpc_port" in record:
                yield Server(child.pid, f"127.0.0.1:{record['grpc_port']}", time.perf_counter() - start)
                return
        raise OperatorError(f"{' '.join(arguments)} did not start; run it alone to see why.")
    finally:
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=_TIMEOUT_S)


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
