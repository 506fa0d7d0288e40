"""Turn the prediction log into Parquet, or delete entities from it: `make predictions`.

Asks running servers to finish the files that they are writing, so all calls up to now are included. The folder is
SERVING_PREDICTION_LOG, or that of `--log`. A Parquet file has a row for each row that was answered: `time`,
`request_id`, `entity`, `input.NAME` as the model received it, `output.NAME`, the model's version and digest, and the
features that used a fallback.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serving.domain.errors import OperatorError, quoted
from serving.domain.settings import shared_settings
from serving.offline import project
from serving.offline.score.layout import DEFAULTED, DIGEST, LAST_KNOWN, VERSION
from serving.offline.score.output_columns import flags_column, key_column, output_column
from serving.prediction.log_files import (
    ENTITY,
    INPUT,
    OPEN,
    OUTPUT,
    PARQUET,
    SEGMENT,
    LogFolder,
    LoggedCalls,
    LoggedModel,
    blocks,
)

TIME, REQUEST_ID, MODEL = "time", "request_id", "model"

_PATIENCE_S = 30.0
_SILENT_S = 10.0  # a server touches the file that it writes every second
_PAUSE_S = 0.1
_WRITING = ".writing"


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert or delete, and say what there is."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.offline.predictions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="the prediction log (default: that of the setting)")
    parser.add_argument("--delete", nargs="+", metavar="KEY", help="delete all rows of these entities")
    options = parser.parse_args(arguments)
    folder = log_folder(options.log)
    if options.delete:
        print(f"deleted {delete(folder, options.delete)} rows from {folder.path}")
        return 0
    files = collect(folder)
    rows = sum(pq.read_metadata(path).num_rows for path in files)
    print(f"{folder.path}: {rows} rows in {len(files)} Parquet files")
    return 0


def log_folder(given: Path | None) -> LogFolder:
    """Return the folder of the prediction log.

    :raises OperatorError: none is named, or it does not exist
    """
    settings = shared_settings()
    path = given or settings.prediction_log
    if path is None:
        raise OperatorError(
            "there is no prediction log: set SERVING_PREDICTION_LOG to its folder, for the server too, or name one "
            "with --log; see docs/monitoring.md."
        )
    if not path.is_dir():
        raise OperatorError(f"{path}: is no folder, so nothing was logged there; see docs/monitoring.md.")
    return LogFolder(path, settings.prediction_log_mb << 20, settings.prediction_log_days)


def collect(folder: LogFolder) -> list[Path]:
    """Turn all that was logged up to now into Parquet; return the files, oldest first.

    :raises OperatorError: the folder can't be written, or a server goes on writing
    """
    with _alone(folder):
        return _collected(folder)


def delete(folder: LogFolder, keys: Sequence[str]) -> int:
    """Delete all rows of these entities that were answered up to now; return their number. Raises like `collect`."""
    gone = pa.array(keys, pa.string())
    with _alone(folder):
        return sum(_without(path, gone) for path in _collected(folder))


def _collected(folder: LogFolder) -> list[Path]:
    _finish_segments(folder)
    for path in folder.path.glob(f"*{_WRITING}"):
        path.unlink(missing_ok=True)  # of a command that was killed
    for segment in folder.files(SEGMENT):
        _convert(segment)
    folder.prune()
    return folder.files(PARQUET)


def _finish_segments(folder: LogFolder) -> None:
    """Ask for the end of all segments and wait for it; take over those of servers that were killed."""
    folder.request.touch()
    running, deadline = set(folder.files(OPEN)), time.monotonic() + _PATIENCE_S
    while running := {path for path in running if path.exists()}:
        if time.monotonic() > deadline:
            raise OperatorError(f"{min(running)}: a server still writes it; run the command again.")
        time.sleep(_PAUSE_S)
        folder.request.touch()
        # By the clock of the disk, which may be another machine's.
        folder.adopt(folder.request.stat().st_mtime - _SILENT_S)


def _convert(segment: Path) -> None:
    """Turn a segment into a Parquet file that appears whole."""
    with segment.open("rb") as file:
        tables = (_table(model, calls) for model, calls in blocks(file))
        _write(segment.with_suffix(PARQUET), tables)
        left = segment.stat().st_size - file.tell()
    if left:
        print(f"{segment.name}: the last {left} bytes were cut off, when a server was killed or its disk was full")
    segment.unlink(missing_ok=True)


def _without(path: Path, gone: pa.Array) -> int:
    """Write a file again without the rows of these entities."""
    with pq.ParquetFile(path) as source:
        if ENTITY not in source.schema_arrow.names:
            return 0
        keys = (source.read_row_group(group, [ENTITY]).column(ENTITY) for group in range(source.num_row_groups))
        count = sum(pc.sum(pc.is_in(column, gone)).as_py() or 0 for column in keys)
        if count:
            groups = (source.read_row_group(group) for group in range(source.num_row_groups))
            _write(path, (table.filter(pc.invert(pc.is_in(table.column(ENTITY), gone))) for table in groups))
    return int(count)


def _write(target: Path, tables: Iterator[pa.Table]) -> None:
    """Write tables of one schema to a file that appears whole; without rows, remove the file."""
    staged, writer = target.with_suffix(_WRITING), None
    try:
        for table in tables:
            if len(table):
                writer = writer or pq.ParquetWriter(staged, table.schema, compression="zstd")
                writer.write_table(table)
        if writer is not None:
            writer.close()
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    if writer is None:
        target.unlink(missing_ok=True)
    else:
        staged.replace(target)


def _table(model: LoggedModel, calls: LoggedCalls) -> pa.Table:
    rows, reference = len(calls), model.reference
    ids = key_column(pa.array(calls.request_ids, pa.binary()), pa.string())
    columns = {
        TIME: pa.array(calls.times, pa.int64()).cast(pa.timestamp("us", "UTC")),
        REQUEST_ID: pc.if_else(pc.equal(ids, ""), None, ids),
        MODEL: pa.array([reference.model] * rows),
        VERSION: pa.array([reference.version] * rows),
        DIGEST: pa.array([reference.digest] * rows),
    }
    if calls.entities is not None:
        columns[ENTITY] = key_column(pa.array(calls.entities, pa.binary()), pa.string())
    columns |= {INPUT + spec.name: output_column(calls.inputs[spec.name], spec) for spec in model.inputs}
    columns |= {OUTPUT + spec.name: output_column(calls.outputs[spec.name], spec) for spec in model.outputs}
    columns |= {
        DEFAULTED: flags_column(calls.defaulted, rows),
        LAST_KNOWN: flags_column(calls.last_known, rows),
    }
    return pa.table(columns)


@contextmanager
def _alone(folder: LogFolder) -> Iterator[None]:
    """Let one command at a time change the files; without it, a file that is converted twice brings a row back.

    This is SQLite's lock on an empty file, as it works on every system and ends with its process.

    :raises OperatorError: another command holds the lock for too long, or the folder can't be written
    """
    try:
        with closing(sqlite3.connect(folder.path / ".lock", timeout=_PATIENCE_S, isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            yield
    except (sqlite3.Error, OSError) as error:
        raise OperatorError(
            f"{folder.path}: can't be changed ({quoted(error)}); check rights and free space, and whether another "
            "command works on it."
        ) from None


def forget(keys: Sequence[str]) -> str:
    """Delete entities from the prediction log, if there is one; return what to say of it."""
    settings = shared_settings()
    if settings.prediction_log is None or not settings.prediction_log.is_dir():
        return ""
    return f", rows of the prediction log: {delete(log_folder(None), keys)}"


if __name__ == "__main__":
    project.run(main)
