"""The prediction log: a sample of the calls with their answers, written to files by a thread.

A call hands its arrays over and goes on. What finds no room, or can't be written, is lost and counted; no call waits
for a disk. `serving.prediction.log_files` describes the files, and `make predictions` turns them into Parquet.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any, NamedTuple, Protocol

import numpy as np

from serving.domain.deadline import Deadline
from serving.domain.errors import quoted
from serving.domain.tensors import Tensor, Tensors
from serving.online.telemetry import RequestId, request_id
from serving.prediction.log_files import SEGMENT, Flags, LogFolder, LoggedCalls, LoggedModel, encode
from serving.prediction.pipeline import Answer, Run

log = logging.getLogger(__name__)

QUEUE_FULL, NOT_WRITTEN = "queue_full", "not_written"

_WAKE_S = 1.0  # the thread writes once a second: woken by each call, it would take the interpreter from the next one
_ROTATE_S = 3600.0
_ABANDONED_S = 60.0
_PATIENCE_S = 5.0
_CALL_BYTES, _TENSOR_BYTES, _ELEMENT_BYTES = 1200, 160, 48  # Python's objects around the content, measured


class Counted(Protocol):
    """Receive numbers of rows; `telemetry.Metrics` counts them."""

    def logged(self, rows: int) -> None:
        """Count rows that were written."""

    def not_logged(self, reason: str, rows: int) -> None:
        """Count rows that were lost."""


class _Call(NamedTuple):
    size: int
    time_ns: int
    request_id: RequestId | None
    rows: int
    entities: Tensor | None
    inputs: Tensors
    outputs: Tensors
    answer: Answer


@dataclass
class _Segment:
    """A file that is being written."""

    path: Path
    file: Any
    began: float
    asked: int
    size: int = 0
    rows: int = 0


class PredictionLog:
    """Log a share of the calls of one model; at most `queue_bytes` wait for the thread.

    `entity` names the input with the keys, if there is one.
    """

    def __init__(
        self,
        folder: LogFolder,
        model: LoggedModel,
        counted: Counted,
        *,
        entity: str,
        share: float,
        queue_bytes: int,
        wake: float = _WAKE_S,
    ) -> None:
        self._folder = folder
        self._model = model
        self._counted = counted
        self._entity = entity
        self._share = share
        self._queue_bytes = queue_bytes
        self._wake = wake
        specs = (*model.inputs, *model.outputs)
        self._call_bytes = _CALL_BYTES + _TENSOR_BYTES * len(specs)
        self._row_bytes = 2 * _ELEMENT_BYTES + sum(s.row_elements * s.dtype.itemsize for s in specs)
        self._texts = [spec.name for spec in model.inputs if spec.holds_bytes]
        self._text_outputs = [spec.name for spec in model.outputs if spec.holds_bytes]
        self._changed = Condition()
        self._waiting: deque[_Call] = deque()
        self._held = 0
        self._closing = False
        self._segment: _Segment | None = None
        self._works = True
        self._next_look = 0.0
        for reason in (QUEUE_FULL, NOT_WRITTEN):  # a series that begins with its first loss hides it from `rate`
            counted.not_logged(reason, 0)
        self._begun = Event()
        self._thread = Thread(target=self._write_on, name="prediction-log", daemon=True)
        self._thread.start()
        self._begun.wait(_PATIENCE_S)

    def around(self, run: Run) -> Run:
        """Return `run`, which now hands a share of its calls to the log."""

        async def logged(inputs: Tensors, rows: int, deadline: Deadline) -> Answer:
            answer = await run(inputs, rows, deadline)
            if random.random() < self._share:  # noqa: S311 - a sample
                self._offer(inputs, rows, answer)
            return answer

        return logged

    def close(self) -> None:
        """Write what waits and finish the segment, within some seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_PATIENCE_S)

    def _offer(self, inputs: Tensors, rows: int, answer: Answer) -> None:
        received, outputs = answer.inputs, answer.outputs
        if answer.rows is not None:  # a copy: a part holds on to the arrays of its whole batch
            received = {name: tensor[answer.rows].copy() for name, tensor in received.items()}
            outputs = {name: tensor.copy() for name, tensor in outputs.items()}
        size = self._call_bytes + self._row_bytes * rows
        entities = inputs[self._entity] if self._entity else None
        if entities is not None:
            size += _text_bytes(entities)
        for name in self._texts:
            size += _text_bytes(received[name])
        for name in self._text_outputs:
            size += _text_bytes(outputs[name])
        call = _Call(size, time.time_ns(), request_id.get(), rows, entities, received, outputs, answer)
        with self._changed:
            fits = self._held + size <= self._queue_bytes and not self._closing
            if fits:
                self._waiting.append(call)
                self._held += size
                if self._held > self._queue_bytes // 2:
                    self._changed.notify()
        if not fits:
            self._counted.not_logged(QUEUE_FULL, rows)

    def _write_on(self) -> None:
        """Write until the log is closed.

        There is always a segment, so that who asks for its end knows that there is a server, and waits for it.
        """
        closing = False
        with contextlib.suppress(OSError):  # the first call tries again, and says why not
            self._begin(self._asked())
        self._begun.set()
        while not closing:
            with self._changed:
                if not self._closing and self._held <= self._queue_bytes // 2:
                    self._changed.wait(self._wake)
                closing = self._closing
            # Before the queue is read: whoever asks for the end of a segment finds all in it that was answered before.
            asked = self._asked()
            self._write_queue(asked)
            self._look_after(asked, closing)

    def _write_queue(self, asked: int) -> None:
        with self._changed:
            calls, self._waiting = self._waiting, deque()
        if not calls:
            return
        rows, size = sum(call.rows for call in calls), sum(call.size for call in calls)
        try:
            self._append(calls, rows, asked)
        except Exception as error:  # noqa: BLE001 - whatever it is, serving goes on
            if self._works:  # once, until it works again
                log.warning("the prediction log can't be written, rows are lost: %s", quoted(error))
            self._works = False
            self._counted.not_logged(NOT_WRITTEN, rows)
        else:
            if not self._works:
                log.info("the prediction log can be written again")
            self._works = True
            self._counted.logged(rows)
        finally:
            del calls
            with self._changed:
                self._held -= size

    def _append(self, calls: Sequence[_Call], rows: int, asked: int) -> None:
        block = encode(self._model, _columns(calls))
        segment = self._segment or self._begin(asked)
        try:
            written = 0
            while written < len(block):
                written += segment.file.write(block[written:])
        except OSError:
            segment.file.truncate(segment.size)  # half of a block would hide all that follow it
            segment.file.seek(segment.size)
            raise
        segment.size += len(block)
        segment.rows += rows

    def _begin(self, asked: int) -> _Segment:
        self._folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # for the server's user only
        self._folder.prune()
        path = self._folder.new()
        self._segment = _Segment(path, path.open("xb", buffering=0), time.monotonic(), asked)
        return self._segment

    def _look_after(self, asked: int, closing: bool) -> None:
        """Finish a segment in time; say that it is alive; remove what is old, and what a killed process left."""
        segment, now = self._segment, time.monotonic()
        if segment is None and not closing:
            with contextlib.suppress(OSError):
                self._begin(asked)
        elif segment is not None:
            full = segment.size >= self._folder.segment_bytes or now - segment.began >= _ROTATE_S
            if closing or full or asked != segment.asked:
                self._segment = None
                if not closing:
                    with contextlib.suppress(OSError):
                        self._begin(asked)
                self._finish(segment)
            else:
                with contextlib.suppress(OSError):
                    os.utime(segment.path)
        if now >= self._next_look:
            self._next_look = now + _ROTATE_S
            with contextlib.suppress(OSError):
                self._folder.adopt(time.time() - _ABANDONED_S)
                self._folder.prune()

    def _finish(self, segment: _Segment) -> None:
        """Give a segment its final name; without rows, remove it."""
        try:
            with contextlib.closing(segment.file) as file:
                os.fsync(file.fileno())
            if segment.rows:
                segment.path.rename(segment.path.with_suffix(SEGMENT))
            else:
                segment.path.unlink()
        except OSError as error:
            log.warning("%s can't be finished: %s", segment.path.name, quoted(error))
            self._counted.not_logged(NOT_WRITTEN, segment.rows)

    def _asked(self) -> int:
        try:
            return self._folder.request.stat().st_mtime_ns
        except OSError:
            return 0


def _columns(calls: Sequence[_Call]) -> LoggedCalls:
    first, counts = calls[0], [call.rows for call in calls]
    ids = [b"" if call.request_id is None else call.request_id.given.encode() for call in calls]
    starts = np.cumsum([0, *counts[:-1]]).tolist()
    return LoggedCalls(
        np.repeat(np.array([call.time_ns // 1000 for call in calls], np.int64), counts),
        np.repeat(np.array(ids, object), counts),
        None if first.entities is None else np.concatenate([c.entities for c in calls if c.entities is not None]),
        {name: np.concatenate([call.inputs[name] for call in calls]) for name in first.inputs},
        {name: np.concatenate([call.outputs[name] for call in calls]) for name in first.outputs},
        _moved([call.answer.defaulted for call in calls], starts),
        _moved([call.answer.last_known for call in calls], starts),
    )


def _moved(flags: Sequence[Flags], starts: Sequence[int]) -> dict[str, list[int]]:
    """Return the flagged rows of several calls as rows of all."""
    moved: dict[str, list[int]] = {}
    for flagged, start in zip(flags, starts, strict=True):
        for name, rows in flagged.items():
            moved.setdefault(name, []).extend(start + row for row in rows)
    return moved


def _text_bytes(tensor: Tensor) -> int:
    return sum(map(len, tensor.ravel().tolist())) + _ELEMENT_BYTES * tensor.size
