"""Mutated requests in great number: each is answered or refused, none makes the server fail or grow."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import grpc

from serving.proto import open_inference_pb2 as pb
from tests.support.requests import MODEL, good, good_typed
from tests.support.server import ServerProcess
from tests.support.wire import SERVING, Wire

COUNT = int(os.environ.get("FUZZ_COUNT", "3000"))
SEED = int(os.environ.get("FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
AT_ONCE = 16
MAX_GROWTH = 0.10
FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}

_DATATYPES = ("BOOL", "INT64", "FP32", "FP64", "BYTES", "BF16", "", "fp32", "\0")
_SIZES = (-(1 << 63), -1, 0, 1, 2, 7, 1025, (1 << 31), (1 << 63) - 1)
_BYTES = (b"", b"\0", b"\xff" * 4, b"\x01\0\0\0", b"\0\0\xc0\x7f" * 2, b"x" * 1000)


def mutated(base: pb.ModelInferRequest, rng: random.Random) -> bytes:
    """Change a good request in one to four places that its structure knows, or in bytes where it does not."""
    request = pb.ModelInferRequest()
    request.CopyFrom(base)
    for _ in range(rng.randint(1, 4)):
        _mutate(request, rng)
    body = bytearray(request.SerializeToString())
    if rng.random() < 0.3 and body:
        for _ in range(rng.randint(1, 8)):
            body[rng.randrange(len(body))] = rng.randrange(256)
    return bytes(body[: rng.randrange(len(body) + 1)] if rng.random() < 0.05 else body)


def _mutate(request: pb.ModelInferRequest, rng: random.Random) -> None:
    sent = rng.choice(request.inputs) if request.inputs else request.inputs.add()
    match rng.randrange(11):
        case 0:
            request.model_name = rng.choice(["", "nobody", "../x", "a" * 500, "rich\r\n"])
        case 1:
            request.model_version = rng.choice(["0", "2", "latest", "-1", "\0"])
        case 2:
            sent.name = rng.choice(["", "nothing", "fp32", "\x1b[31m", sent.name.upper()])
        case 3:
            sent.datatype = rng.choice(_DATATYPES)
        case 4:
            sent.shape[:] = [rng.choice(_SIZES) for _ in range(rng.randrange(4))]
        case 5 if request.raw_input_contents:
            request.raw_input_contents[rng.randrange(len(request.raw_input_contents))] = rng.choice(_BYTES)
        case 6:
            request.raw_input_contents.append(rng.choice(_BYTES))
        case 7:
            sent.contents.fp32_contents.extend([rng.choice([0.0, float("nan"), float("inf")])] * rng.randrange(5))
        case 8:
            request.inputs.add().CopyFrom(sent)
        case 9:
            request.outputs.add(name=rng.choice(["fp32_out", "nothing", ""]))
        case _:
            for number in range(rng.randrange(60)):
                request.parameters[f"key-{number}"].int64_param = number


async def send(wire: Wire, bodies: list[bytes]) -> Counter[grpc.StatusCode]:
    """Send all, a few at once; count the codes."""
    codes: Counter[grpc.StatusCode] = Counter()
    waiting = iter(bodies)

    async def caller() -> None:
        for body in waiting:
            codes[await wire.call("ModelInfer", body).code()] += 1

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return codes


async def test_no_mutated_request_makes_the_server_fail_or_grow(folder: Path) -> None:
    print(f"FUZZ_SEED={SEED} FUZZ_COUNT={COUNT}")
    rng = random.Random(SEED)
    codes: Counter[grpc.StatusCode] = Counter()
    MODEL.lay_out(folder)
    with ServerProcess(folder) as server:
        async with Wire(server.target) as wire:
            codes += await send(wire, [mutated(rng.choice([good(), good_typed()]), rng) for _ in range(COUNT // 3)])
            warm = server.resident_bytes()
            for _ in range(10):
                codes += await send(
                    wire, [mutated(rng.choice([good(), good_typed()]), rng) for _ in range(COUNT // 15)]
                )
            grown = server.resident_bytes() / warm - 1
            assert await wire.status() == SERVING
        assert server.running
    print(f"{dict(codes)}, memory {grown:+.1%} after the first third")
    assert not FAULTS & set(codes)
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] > sum(codes.values()) / 2
    assert grown < MAX_GROWTH
