"""Mutated requests over the wire: each is answered or refused, and none leaks memory.

`SERVING_FUZZ` is the number of requests, `SERVING_FUZZ_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from pathlib import Path

import grpc

from tests.platform.support.fuzz import bodies
from tests.platform.support.requests import MODEL, good, good_typed
from tests.platform.support.server import ServerProcess
from tests.platform.support.wire import SERVING, Wire

COUNT = int(os.environ.get("SERVING_FUZZ", "3000"))
SEED = int(os.environ.get("SERVING_FUZZ_SEED", random.SystemRandom().randrange(1 << 32)))
CALLERS = 16
WARM = 500
ALLOWED = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


async def ask(wire: Wire, seed: int, count: int) -> Counter[grpc.StatusCode]:
    """Send the requests concurrently; count the status codes."""
    requests = bodies(seed, count, [good(b"text"), good_typed()])
    codes: Counter[grpc.StatusCode] = Counter()

    async def caller() -> None:
        for body in requests:
            call = wire.call("ModelInfer", body)
            code = await call.code()
            codes[code] += 1
            assert code in ALLOWED, f"{code}: {await call.details()}: {body[:300]!r}"

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return codes


async def test_mutated_requests_are_answered_or_refused_and_leak_no_memory(folder: Path) -> None:
    MODEL.lay_out(folder)
    print(f"{COUNT} requests, SERVING_FUZZ_SEED={SEED}")
    with ServerProcess(folder) as server:
        async with Wire(server.target) as wire:
            await ask(wire, SEED + 1, WARM)
            before = server.resident_bytes()
            codes = await ask(wire, SEED, COUNT)
            grown = server.resident_bytes() / before - 1
            print({code.name: number for code, number in codes.items()}, f"memory {grown:+.1%}")
            assert sum(codes.values()) == COUNT
            assert set(codes) == ALLOWED
            assert grown < 0.1
            assert await wire.status() == SERVING
            assert len((await wire.infer(good_typed())).outputs) == len(MODEL.manifest.outputs)
        server.kill()
        for line in server.lines:
            assert json.loads(line)["level"] in ("INFO", "WARNING")
