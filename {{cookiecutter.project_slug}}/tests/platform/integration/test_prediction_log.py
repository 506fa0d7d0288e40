"""A real server with a prediction log, whose disk is full or which is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from serving.offline import predictions
from serving.prediction.log_files import OPEN, SEGMENT, LogFolder
from tests.platform.support.artifacts import tiny
from tests.platform.support.server import PATIENCE_S, ServerProcess
from tests.platform.support.wire import Wire, floats, request

GOOD = request("tiny", {"base": [1.0], "value": [2.0]})
LOST = "serving_prediction_log_lost_total{reason=not_written}"
WRITTEN = "serving_prediction_log_rows_total"
CALLS = 50


def log_of(path: Path) -> LogFolder:
    return LogFolder(path, 64 << 20, 30.0)


def rows(folder: LogFolder) -> list[dict[str, Any]]:
    return [row for path in predictions.collect(folder) for row in pq.read_table(path).to_pylist()]


async def answered(wire: Wire, calls: int = CALLS) -> None:
    for _ in range(calls):
        assert floats(await wire.infer(GOOD)) == [3.0]


async def until(server: ServerProcess, wire: Wire, metric: str, least: float) -> None:
    """Go on calling until a metric has grown."""
    deadline = time.monotonic() + PATIENCE_S
    while server.metrics()[metric] < least:
        assert time.monotonic() < deadline, server.log
        await answered(wire, 1)


async def test_calls_are_in_the_log_after_the_server_has_stopped(folder: Path) -> None:
    tiny().lay_out(folder)
    with ServerProcess(folder, SERVING_PREDICTION_LOG="log") as server:
        async with Wire(server.target) as wire:
            await wire.call("ModelInfer", GOOD.SerializeToString(), metadata=[("x-request-id", "mine")])
            await answered(wire)
        assert server.stop() == 0
    found = rows(log_of(folder / "log"))
    assert len(found) == CALLS + 1
    assert {name: found[0][name] for name in ("request_id", "input.base", "input.value", "output.total")} == {
        "request_id": "mine",
        "input.base": 1.0,
        "input.value": 2.0,
        "output.total": 3.0,
    }


async def test_a_killed_server_leaves_what_it_had_written_and_the_next_one_serves(folder: Path) -> None:
    tiny().lay_out(folder)
    kept = log_of(folder / "log")
    with ServerProcess(folder, SERVING_PREDICTION_LOG="log") as server:
        async with Wire(server.target) as wire:
            await answered(wire)
            await until(server, wire, WRITTEN, CALLS)
            written = int(server.metrics()[WRITTEN])
        server.signal(signal.SIGKILL)
        server.wait()
    (left,) = kept.files(OPEN)
    os.utime(left, (0, 0))  # a minute has passed
    with ServerProcess(folder, SERVING_PREDICTION_LOG="log") as server:
        async with Wire(server.target) as wire:
            await answered(wire, 1)
        assert server.stop() == 0
    assert len(kept.files(OPEN)) == 0
    assert left.with_suffix(SEGMENT) in kept.files(SEGMENT)
    assert len(rows(kept)) >= written + 1


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system without room."""
    place = tmp_path / "full"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root mounts a small file system, and not everywhere")
    with contextlib.suppress(OSError), (place / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system of Linux")
async def test_on_a_disk_that_is_really_full_calls_are_answered_and_lost_rows_counted(
    folder: Path, full_disk: Path
) -> None:
    tiny().lay_out(folder)
    with ServerProcess(folder, SERVING_PREDICTION_LOG=str(full_disk)) as server:
        async with Wire(server.target) as wire:
            await until(server, wire, LOST, CALLS)
            assert server.metrics()[WRITTEN] == 0
            (full_disk / "filling").unlink()
            await until(server, wire, WRITTEN, 1)
            written = server.metrics()[WRITTEN]
        assert server.stop() == 0
    assert len(rows(log_of(full_disk))) >= written
    said = [json.loads(line) for line in server.lines if "prediction log" in line]
    assert [record["level"] for record in said] == ["WARNING", "INFO"]  # once each
    assert "No space left on device" in said[0]["message"]
