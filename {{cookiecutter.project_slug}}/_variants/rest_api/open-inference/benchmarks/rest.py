"""Measure calls by gRPC, by REST with JSON, and by REST with binary tensors: part of `make bench`.

One server, one caller, the same rows in turn. The server's CPU time of a call is what to compare: the caller's own work
is not in it. The figures go to build/bench/rest.json, their curves to build/bench/rest.svg.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import grpc
import numpy as np
import orjson

from benchmarks import load
from benchmarks.chart import chart
from serving.domain.artifacts import Artifact
from serving.domain.tensors import Datatype
from serving.online.grpc.proto import open_inference_pb2 as pb

ROWS = (1, 100, 1000)
_TIMEOUT_S = 30.0

Call = Callable[[], Awaitable[object]]


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rest", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="numbers of rows in one call")
    options = parser.parse_args()
    artifact = load.pinned()
    with load.process("-m", "serving") as server:
        found = asyncio.run(_compare(server, artifact, options.rows, options.rounds, options.seconds))
    load.FOLDER.mkdir(parents=True, exist_ok=True)
    (load.FOLDER / "rest.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (load.FOLDER / "rest.svg").write_text(draw(found), encoding="utf-8")
    return 0


def draw(found: Sequence[Mapping[str, float | str]]) -> str:
    """Return the picture of the server's CPU time over the rows of a call."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for one in found:
        lines.setdefault(str(one["path"]), []).append((float(one["rows"]), float(one["cpu_s"]) * 1e6))
    return chart("The server's CPU time of a call", "rows in a call", "microseconds", lines)


async def _compare(
    server: load.Server, artifact: Artifact, counts: Sequence[int], rounds: int, seconds: float
) -> list[dict[str, float | str]]:
    most = await load.max_rows(server.target, artifact)
    print("   rows  path           bytes   p50 ms  CPU us/call  of gRPC")
    found: list[dict[str, float | str]] = []
    for rows in sorted({min(count, most) for count in counts}):
        request = pb.ModelInferRequest.FromString(await load.make_request(server.target, artifact, rows))
        bodies = {"gRPC": request.SerializeToString(), "REST JSON": as_json(request), "REST binary": as_binary(request)}
        took: dict[str, list[tuple[float, float]]] = {path: [] for path in bodies}
        for _ in range(rounds):
            for path, body in bodies.items():
                took[path].append(await _measure(server, request.model_name, path, body, seconds))
        floor = statistics.median(cpu for _, cpu in took["gRPC"])
        for path, rounds_of_path in took.items():
            p50, cpu = (statistics.median(side) for side in zip(*rounds_of_path, strict=True))
            size = len(bodies[path])
            print(f"{rows:>7}  {path:<11} {size:>8} {p50 * 1e3:>8.2f} {cpu * 1e6:>12.0f} {cpu / floor:>8.1f}")
            found.append({"rows": rows, "path": path, "bytes": size, "p50_s": p50, "cpu_s": cpu})
    return found


async def _measure(server: load.Server, model: str, path: str, body: bytes, seconds: float) -> tuple[float, float]:
    """Return the median time and the server's CPU time of a call, in seconds."""
    if path == "gRPC":
        async with grpc.aio.insecure_channel(server.target) as channel:
            stub: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(load.INFER)
            return await _loop(server, lambda: stub(body, timeout=_TIMEOUT_S), seconds)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["rest_port"])
    length = f"Inference-Header-Content-Length: {body.index(_END) + 1}\r\n" if path == "REST binary" else ""
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{length}\r\n"
    whole = head.encode() + body

    async def call() -> None:
        writer.write(whole)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(answer.partition(b"\r\ncontent-length: ")[2].partition(b"\r")[0])
        content = await reader.readexactly(size)
        if not answer.startswith(b"http/1.1 200 "):
            raise RuntimeError(content.decode())

    try:
        return await _loop(server, call, seconds)
    finally:
        writer.close()


async def _loop(server: load.Server, call: Call, seconds: float) -> tuple[float, float]:
    await call()
    took: list[float] = []
    cpu, end = server.cpu_s(), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        await call()
        took.append(time.perf_counter() - start)
    return statistics.median(took), (server.cpu_s() - cpu) / len(took) if took else math.nan


_END = b"\n"  # JSON without line breaks ends here


def as_json(request: pb.ModelInferRequest) -> bytes:
    """Write a request with raw contents as JSON."""
    pairs = zip(request.inputs, request.raw_input_contents, strict=True)
    return orjson.dumps({"inputs": [{**_named(tensor), "data": _elements(tensor, raw)} for tensor, raw in pairs]})


def as_binary(request: pb.ModelInferRequest) -> bytes:
    """Write a request with raw contents as JSON with binary tensors behind it, answered in the same way."""
    pairs = zip(request.inputs, request.raw_input_contents, strict=True)
    inputs = [{**_named(tensor), "parameters": {"binary_data_size": len(raw)}} for tensor, raw in pairs]
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    return b"".join([head, _END, *request.raw_input_contents])


def _named(tensor: pb.ModelInferRequest.InferInputTensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _elements(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes) -> list[object]:
    datatype = Datatype(tensor.datatype)
    if not datatype.holds_bytes:
        values: list[object] = np.frombuffer(raw, datatype.dtype).tolist()
        return values
    found: list[object] = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        found.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return found


if __name__ == "__main__":
    raise SystemExit(main())
