"""The work folder beside the output: whole parts and a plan, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.ipc

from serving.domain.errors import OperatorError
from serving.domain.files import write_synced
from serving.offline.score.chunks import Place
from serving.offline.score.counts import Counts, Refusal
from serving.offline.score.scorer import Scored

_PLAN, _LOCK, _NEW = "plan.json", "lock", ".new"
START: Place = (0, 0, 0)


@dataclass(frozen=True)
class Part:
    """Hold a whole part: its files, what it counted, and where the input goes on."""

    rows: Path
    refusals: Path
    counts: Counts
    after: Place

    def refused(self) -> Iterator[Refusal]:
        """Give the rows that were refused."""
        with self.refusals.open(encoding="utf-8") as lines:
            for line in lines:
                yield Refusal(*json.loads(line))


class Work:
    """Keep the parts of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: list[Part] = []

    @property
    def after(self) -> Place:
        """Where the input goes on after the last whole part."""
        return self.parts[-1].after if self.parts else START

    def load(self) -> None:
        """Read which parts are whole; the files of others are written again."""
        self.parts = []
        while (record := self._file("json")).exists():
            written = json.loads(record.read_bytes())
            counts = Counts.of(written["counts"])
            place = (written["after"][0], written["after"][1], written["after"][2])
            self.parts.append(Part(self._file("arrow"), self._file("refused"), counts, place))

    def write(self, schema: pa.Schema) -> PartWriter:
        """Begin the next part."""
        return PartWriter(self, schema)

    def commit(self, counts: Counts, after: Place) -> None:
        """Make the files of the next part whole; its record is the last to get its name."""
        rows, refusals, record = (self._file(kind) for kind in ("arrow", "refused", "json"))
        staged = record.with_suffix(record.suffix + _NEW)
        staged.unlink(missing_ok=True)
        for path in (rows, refusals):
            path.with_suffix(path.suffix + _NEW).replace(path)
        write_synced(staged, json.dumps({"after": after, "counts": vars(counts)}).encode())
        staged.replace(record)
        sync_folder(self.folder)
        self.parts.append(Part(rows, refusals, counts, after))

    def _file(self, kind: str) -> Path:
        return self.folder / f"part-{len(self.parts):06d}.{kind}"


class PartWriter:
    """Write the next part, chunk by chunk."""

    def __init__(self, work: Work, schema: pa.Schema) -> None:
        self._work = work
        rows, refusals = (work._file(kind) for kind in ("arrow", "refused"))
        self._rows: IO[bytes] = rows.with_suffix(rows.suffix + _NEW).open("wb")
        self._refusals: IO[str] = refusals.with_suffix(refusals.suffix + _NEW).open("w", encoding="utf-8")
        self._writer = pyarrow.ipc.new_file(self._rows, schema)
        self.counts = Counts()
        self.bytes = 0
        self.after = work.after

    def add(self, scored: Scored) -> None:
        """Add the output of a chunk."""
        self._writer.write_batch(scored.batch)
        for refusal in scored.refusals:
            self._refusals.write(json.dumps([refusal.file, refusal.row, refusal.column, refusal.reason]) + "\n")
        self.counts.add(scored.counts)
        self.bytes += scored.batch.nbytes
        self.after = scored.after

    def unfinished(self) -> Part:
        """Return the part as far as it is written, to read the refused rows of."""
        self._refusals.flush()
        return Part(Path(self._rows.name), Path(self._refusals.name), self.counts, self.after)

    def commit(self) -> None:
        """Write all to the disk, then make the part whole."""
        self._writer.close()
        for file in (self._rows, self._refusals):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        self._work.commit(self.counts, self.after)

    def close(self) -> None:
        """Release the files of a part that did not become whole."""
        for file in (self._rows, self._refusals):
            with suppress(OSError):  # what a full disk did not take fails here once more
                file.close()


@contextmanager
def opened(output: Path, plan: Mapping[str, Any], *, restart: bool) -> Iterator[Work]:
    """Open the work folder of an output, alone; it stays until `remove`.

    :raises OperatorError: it has parts of another run, or one is running
    """
    folder = output.with_name(f"{output.name}.work")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("ab") as lock:
        if not _only_one(lock):
            raise OperatorError(f"{output}: another run is writing it; wait for its end, or name another output.")
        wanted = json.loads(json.dumps(plan))
        path = folder / _PLAN
        if restart:
            path.unlink(missing_ok=True)
        if path.exists():
            _compare(folder, json.loads(path.read_bytes()), wanted)
        else:
            for left in folder.iterdir():  # parts without a plan can be of any run
                if left.name != _LOCK:
                    left.unlink()
            staged = path.with_suffix(_NEW)
            write_synced(staged, json.dumps(wanted, indent=1).encode())
            staged.replace(path)
        work = Work(folder)
        work.load()
        yield work


def remove(work: Work) -> None:
    """Remove the folder of a run that has ended; first the plan, without which the parts count for nothing."""
    (work.folder / _PLAN).unlink()
    shutil.rmtree(work.folder, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Wait until new names in a folder are on the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _compare(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            raise OperatorError(
                f"{folder}: holds the parts of a run with another {name}; go on with the same, or begin again with "
                "--restart."
            )


def _only_one(lock: IO[bytes]) -> bool:
    """Lock a file until it is closed, or its process ends; return whether that was possible."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
