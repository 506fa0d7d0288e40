"""The files of the prediction log, which the server writes and an offline command turns into Parquet.

A segment is a sequence of blocks: NumPy's archive of the columns of some calls, after its size and checksum. So the
server needs no library for Parquet, and a block that a crash has cut off is recognized.

A folder holds the files of all replicas. A file begins with the moment of its first row, so names sort by age.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np

from serving.domain.references import Reference
from serving.domain.tensors import Datatype, Tensor, Tensors, TensorSpec

OPEN, SEGMENT, PARQUET = ".part", ".rows", ".parquet"
ENTITY = "entity"
INPUT, OUTPUT = "input.", "output."

_HEAD = struct.Struct("<4sII")
_MAGIC = b"PLG1"
_MAX_BLOCK = 1 << 30
_MOMENT = "%Y%m%dT%H%M%SZ"
_DAY_S = 86_400

Flags = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class LoggedModel:
    """Name the model whose calls a block holds, and their columns; `inputs` are what the model received."""

    reference: Reference
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class LoggedCalls:
    """Hold the rows of some calls; `entities` is None for a model without a feature store.

    `times` are microseconds since 1970; they and `request_ids` have one value for each row. The flags name the rows
    that used a fallback, by feature.
    """

    times: Tensor
    request_ids: Tensor
    entities: Tensor | None
    inputs: Tensors
    outputs: Tensors
    defaulted: Flags
    last_known: Flags

    def __len__(self) -> int:
        return len(self.times)


def encode(model: LoggedModel, calls: LoggedCalls) -> bytes:
    """Return a block."""
    described = {
        "model": str(model.reference),
        "inputs": [[spec.name, spec.datatype.value, *spec.shape] for spec in model.inputs],
        "outputs": [[spec.name, spec.datatype.value, *spec.shape] for spec in model.outputs],
        "defaulted": calls.defaulted,
        "last_known": calls.last_known,
    }
    columns = {"about": np.frombuffer(json.dumps(described).encode(), np.uint8), "times": calls.times}
    texts = {"request_ids": calls.request_ids}
    if calls.entities is not None:
        texts[ENTITY] = calls.entities
    for prefix, specs, tensors in ((INPUT, model.inputs, calls.inputs), (OUTPUT, model.outputs, calls.outputs)):
        for spec in specs:
            (texts if spec.holds_bytes else columns)[prefix + spec.name] = tensors[spec.name]
    for name, text in texts.items():
        elements = text.ravel().tolist()
        columns[f"{name}:sizes"] = np.array([len(element) for element in elements], np.uint32)
        columns[f"{name}:bytes"] = np.frombuffer(b"".join(elements), np.uint8)
    archive = io.BytesIO()
    np.savez(archive, **columns)  # type: ignore[arg-type]  # names are checked: none is `file` or `allow_pickle`
    content = archive.getvalue()
    return _HEAD.pack(_MAGIC, len(content), zlib.crc32(content)) + content


def blocks(file: BinaryIO) -> Iterator[tuple[LoggedModel, LoggedCalls]]:
    """Return the blocks of a segment up to the first one that is not whole, which a crash has cut off.

    After that, the file stands behind the last whole block.
    """
    while True:
        start = file.tell()
        head = file.read(_HEAD.size)
        if len(head) == _HEAD.size:
            magic, size, checksum = _HEAD.unpack(head)
            if magic == _MAGIC and size <= _MAX_BLOCK:
                content = file.read(size)
                if len(content) == size and zlib.crc32(content) == checksum:
                    yield _decoded(content)
                    continue
        file.seek(start)
        return


def _decoded(content: bytes) -> tuple[LoggedModel, LoggedCalls]:
    with np.load(io.BytesIO(content), allow_pickle=False) as columns:
        about = json.loads(columns["about"].tobytes())
        inputs, outputs = (
            tuple(TensorSpec(name, Datatype(kind), tuple(shape)) for name, kind, *shape in about[which])
            for which in ("inputs", "outputs")
        )

        def text(name: str, shape: tuple[int, ...] = ()) -> Tensor:
            ends, whole = np.cumsum(columns[f"{name}:sizes"], dtype=np.int64), columns[f"{name}:bytes"].tobytes()
            starts = [0, *ends[:-1].tolist()]
            elements = np.empty(len(ends), object)
            elements[:] = [whole[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]
            return elements.reshape(-1, *shape)

        def tensors(prefix: str, specs: Sequence[TensorSpec]) -> Tensors:
            return {
                spec.name: text(prefix + spec.name, spec.row_shape) if spec.holds_bytes else columns[prefix + spec.name]
                for spec in specs
            }

        calls = LoggedCalls(
            columns["times"],
            text("request_ids"),
            text(ENTITY) if f"{ENTITY}:sizes" in columns else None,
            tensors(INPUT, inputs),
            tensors(OUTPUT, outputs),
            about["defaulted"],
            about["last_known"],
        )
        return LoggedModel(Reference.parse(about["model"]), inputs, outputs), calls


@dataclass(frozen=True)
class LogFolder:
    """A folder of the prediction log, with at most `most_bytes` that are at most `days` old."""

    path: Path
    most_bytes: int
    days: float

    @property
    def segment_bytes(self) -> int:
        """The size at which a replica begins another segment."""
        return self.most_bytes // 64

    def new(self) -> Path:
        """Return the path of a new segment."""
        return self.path / f"{datetime.now(UTC):{_MOMENT}}-{uuid.uuid4().hex[:12]}{OPEN}"

    def files(self, *kinds: str) -> list[Path]:
        """Return the files of these kinds, oldest first."""
        return sorted(path for path in self.path.glob("*-*.*") if path.suffix in kinds and _since(path) is not None)

    @property
    def request(self) -> Path:
        """A file whose change asks all replicas to finish their segments."""
        return self.path / ".finish"

    def adopt(self, silent_since: float) -> None:
        """Take over the segments of processes that were killed: a living one touches its own every second."""
        for path in self.files(OPEN):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < silent_since:
                    path.rename(path.with_suffix(SEGMENT))

    def prune(self) -> None:
        """Remove files that are too old, then the oldest ones until there is room for what is being written."""
        oldest = time.time() - self.days * _DAY_S
        room = self.most_bytes - self.segment_bytes * (len(self.files(OPEN)) + 1)
        for path in reversed(self.files(SEGMENT, PARQUET)):
            with contextlib.suppress(FileNotFoundError):  # another process has removed it
                room -= path.stat().st_size
                if room < 0 or (_since(path) or 0) < oldest:
                    path.unlink()


def _since(path: Path) -> float | None:
    """Return the moment in the name of a file; None if it is no file of the log."""
    try:
        return datetime.strptime(path.name.partition("-")[0], _MOMENT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
