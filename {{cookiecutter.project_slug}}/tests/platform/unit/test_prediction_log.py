"""The prediction log: what the server writes, what it loses, and that no call waits for it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.domain.deadline import Deadline
from serving.domain.references import Reference
from serving.domain.tensors import ROWS, Datatype, Tensor, Tensors, TensorSpec
from serving.online import prediction_log
from serving.online.prediction_log import NOT_WRITTEN, QUEUE_FULL, PredictionLog
from serving.online.telemetry import RequestId, request_id
from serving.prediction.log_files import (
    OPEN,
    SEGMENT,
    LogFolder,
    LoggedCalls,
    LoggedModel,
    blocks,
    encode,
)
from serving.prediction.pipeline import Answer

MB = 1 << 20
MODEL = LoggedModel(
    Reference("local", "m", "7", f"sha256={'ab' * 32}"),
    (TensorSpec("x", Datatype.FP32), TensorSpec("words", Datatype.TEXT, (ROWS, 2))),
    (TensorSpec("y", Datatype.FP32),),
)
PATIENCE_S = 60.0


@dataclass
class Counts:
    """Count rows; `changed` says that there is news."""

    written: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def logged(self, rows: int) -> None:
        with self.changed:
            self.written += rows
            self.changed.notify_all()

    def not_logged(self, reason: str, rows: int) -> None:
        with self.changed:
            self.lost[reason] = self.lost.get(reason, 0) + rows
            self.changed.notify_all()

    def wait_for(self, wanted: Callable[[Counts], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: wanted(self), PATIENCE_S), (self.written, self.lost)


def folder_of(path: Path, *, most_bytes: int = 64 * MB, days: float = 30.0) -> LogFolder:
    return LogFolder(path / "log", most_bytes, days)


@contextmanager
def logging_to(
    folder: LogFolder, counts: Counts, *, share: float = 1.0, queue_bytes: int = MB, wake: float = 0.01
) -> Iterator[PredictionLog]:
    log = PredictionLog(folder, MODEL, counts, entity="key", share=share, queue_bytes=queue_bytes, wake=wake)
    try:
        yield log
    finally:
        log.close()


def request(*keys: bytes) -> dict[str, Tensor]:
    return {"key": np.array(keys, object), "x": np.arange(len(keys), dtype=np.float32)}


async def predicted(inputs: Tensors, rows: int, deadline: Deadline) -> Answer:
    words = np.array([[b"a\0", b""]] * rows, object)
    received = {"x": inputs["x"], "words": words}
    return Answer({"y": inputs["x"] + 1}, {"x": [0]}, {"words": [rows - 1]}, inputs=received)


async def call(log: PredictionLog, *keys: bytes) -> None:
    await log.around(predicted)(request(*keys), len(keys), Deadline(60.0))


def read(path: Path) -> list[tuple[LoggedModel, LoggedCalls]]:
    with path.open("rb") as file:
        return list(blocks(file))


def keys_in(folder: LogFolder, *kinds: str) -> list[bytes]:
    return [
        key
        for path in folder.files(*(kinds or (SEGMENT,)))
        for _, calls in read(path)
        if calls.entities is not None
        for key in calls.entities.tolist()
    ]


async def test_each_row_is_written_with_what_the_model_received_and_answered(folder: Path) -> None:
    counts, kept = Counts(), folder_of(folder)
    with logging_to(kept, counts, wake=PATIENCE_S) as log:  # all in one block
        token = request_id.set(RequestId("mine"))
        await call(log, b"ann", b"bo\xff")
        request_id.reset(token)
        await call(log, b"eve")
    (file,) = kept.files(SEGMENT)
    found = read(file)
    assert {model for model, _ in found} == {MODEL}
    ((_, calls),) = found
    assert calls.entities is not None
    assert calls.entities.tolist() == [b"ann", b"bo\xff", b"eve"]
    assert calls.request_ids.tolist() == [b"mine", b"mine", b""]
    assert calls.inputs["x"].tolist() == [0, 1, 0]
    assert calls.inputs["words"].tolist() == [[b"a\0", b""]] * 3
    assert calls.outputs["y"].tolist() == [1, 2, 1]
    assert (calls.defaulted, calls.last_known) == ({"x": [0, 2]}, {"words": [1, 2]})
    assert (counts.written, counts.lost) == (3, {QUEUE_FULL: 0, NOT_WRITTEN: 0})
    assert os.name == "nt" or kept.path.stat().st_mode & 0o077 == 0  # other users of the machine read nothing


async def test_a_call_of_a_batch_logs_its_own_rows(folder: Path) -> None:
    async def part(inputs: Tensors, rows: int, deadline: Deadline) -> Answer:
        whole = await predicted(request(b"1", b"2", b"3"), 3, deadline)
        return whole.part(1, 1, 3)

    kept = folder_of(folder)
    with logging_to(kept, Counts()) as log:
        await log.around(part)({"key": np.array([b"2"], object)}, 1, Deadline(60.0))
    ((_, calls),) = read(kept.files(SEGMENT)[0])
    assert (calls.inputs["x"].tolist(), calls.outputs["y"].tolist()) == ([1], [2])


async def test_a_share_of_the_calls_is_logged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([0.0, 0.24, 0.25, 0.99])
    monkeypatch.setattr(prediction_log.random, "random", lambda: next(drawn))
    kept = folder_of(folder)
    with logging_to(kept, Counts(), share=0.25) as log:
        for key in (b"1", b"2", b"3", b"4"):
            await call(log, key)
    assert keys_in(kept) == [b"1", b"2"]


async def test_ten_times_what_fits_is_lost_and_counted_and_no_call_waits(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, entered = threading.Event(), threading.Event()

    def slow(model: LoggedModel, calls: LoggedCalls) -> bytes:
        entered.set()
        assert stuck.wait(PATIENCE_S)
        return encode(model, calls)

    monkeypatch.setattr(prediction_log, "encode", slow)
    counts, queue_bytes = Counts(), 64 * 1024
    with logging_to(folder_of(folder), counts, queue_bytes=queue_bytes) as log:
        await call(log, b"first")
        assert entered.wait(PATIENCE_S)
        for _ in range(10 * queue_bytes // 1000):
            await call(log, b"key")
        lost = counts.lost[QUEUE_FULL]
        assert log._held <= queue_bytes
        stuck.set()
    assert log._held == 0  # there is room again
    assert lost > 500
    assert counts.written + counts.lost[QUEUE_FULL] == 1 + 10 * queue_bytes // 1000


async def test_a_row_larger_than_the_queue_is_lost_and_counted(folder: Path) -> None:
    counts = Counts()
    with logging_to(folder_of(folder), counts, queue_bytes=64 * 1024) as log:
        await call(log, b"k" * 65 * 1024)
    assert counts.lost[QUEUE_FULL] == 1


class Full:
    """A file on a full disk: half of the first bytes find room."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.room = 100

    def write(self, content: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room = 0
        return int(self.file.write(content[:100]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


async def test_a_full_disk_loses_rows_counts_them_and_hides_none_that_come_later(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts, kept = Counts(), folder_of(folder)
    with logging_to(kept, counts) as log:
        await call(log, b"before")
        counts.wait_for(lambda seen: seen.written == 1)
        segment = log._segment
        assert segment is not None
        segment.file = Full(segment.file)
        for number in (1, 2):
            await call(log, b"lost")
            counts.wait_for(lambda seen, number=number: seen.lost[NOT_WRITTEN] == number)  # type: ignore[misc]
        segment.file = segment.file.file
        assert segment.path.stat().st_size == segment.size  # no half of a block
        await call(log, b"after")
        counts.wait_for(lambda seen: seen.written == 2)
    assert keys_in(kept) == [b"before", b"after"]
    said = [record.message for record in caplog.records if record.name == prediction_log.__name__]
    assert len(said) == 1  # and not one for each call
    assert "No space left on device" in said[0]


async def test_without_rights_rows_are_lost_and_counted_until_there_are_rights(folder: Path) -> None:
    (folder / "log").write_text("in the way")
    counts, kept = Counts(), folder_of(folder)
    with logging_to(kept, counts) as log:
        await call(log, b"lost")
        counts.wait_for(lambda seen: seen.lost[NOT_WRITTEN] == 1)
        (folder / "log").unlink()
        await call(log, b"kept")
        counts.wait_for(lambda seen: seen.written == 1)
    assert keys_in(kept) == [b"kept"]


def test_a_segment_that_was_cut_off_gives_its_whole_blocks(folder: Path) -> None:
    one = LoggedCalls(
        np.zeros(1, np.int64),
        np.array([b""], object),
        None,
        {"x": np.zeros(1, np.float32), "words": np.array([[b"a", b"b"]], object)},
        {"y": np.ones(1, np.float32)},
        {},
        {},
    )
    block = encode(MODEL, one)
    path = folder / "cut"
    for length in (0, 1, 11, 12, 13, len(block) - 1):
        path.write_bytes(block + block[:length])
        with path.open("rb") as file:
            assert len(list(blocks(file))) == 1
            assert file.tell() == len(block)
    changed = bytearray(block)
    changed[-30] ^= 1
    path.write_bytes(changed)
    assert read(path) == []


def named(folder: LogFolder, moment: str, size: int, kind: str = SEGMENT) -> Path:
    folder.path.mkdir(exist_ok=True)
    path = folder.path / f"{moment}-{size:x}{kind}"
    path.write_bytes(b"x" * size)
    return path


def test_the_oldest_files_make_room_and_none_grows_too_old(folder: Path) -> None:
    kept = folder_of(folder, most_bytes=64_000, days=36_500)
    files = [named(kept, f"2026010{day}T000000Z", 20_000 + day) for day in (1, 2, 3, 4)]
    other = kept.path / "mine-1.parquet"
    other.write_bytes(b"x" * 64_000)
    kept.prune()
    assert [path.exists() for path in files] == [False, True, True, True]
    being_written = [named(kept, "20260105T000000Z", size, OPEN) for size in range(4)]  # each may have a 64th
    kept.prune()
    assert [path.exists() for path in files] == [False, False, True, True]
    assert all(path.exists() for path in (other, *being_written))
    LogFolder(kept.path, 64_000, 1.0).prune()
    assert kept.files(SEGMENT) == []


def test_the_segment_of_a_killed_process_is_taken_over_and_that_of_a_living_one_is_not(folder: Path) -> None:
    kept = folder_of(folder)
    dead, alive = (named(kept, "20260101T000000Z", size, OPEN) for size in (1, 2))
    alive_since = alive.stat().st_mtime
    os.utime(dead, (alive_since - 61, alive_since - 61))
    kept.adopt(alive_since - 60)
    assert (dead.exists(), alive.exists()) == (False, True)
    assert kept.files(SEGMENT) == [dead.with_suffix(SEGMENT)]
