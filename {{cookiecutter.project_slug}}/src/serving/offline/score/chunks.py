"""Read input files as chunks of rows, in bounded memory; the same files give the same chunks, whoever reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from serving.domain.errors import OperatorError, quoted
from serving.offline.score.files import CSV, InputFile

_BLOCK_BYTES = 4 << 20
_SHOWN = 200

Place = tuple[int, int, int]
"""Where a chunk begins: the number of its file, of a section in that, and of the chunk in that."""


@dataclass(frozen=True)
class Chunk:
    """Hold consecutive rows of one file; the first row has the number 1, without a CSV file's header.

    `rejected` has the reason for each row that could not be split into columns; those have no place in `columns`.
    `after` is where the next chunk begins, `read` the share of the file that was read.
    """

    file: InputFile
    after: Place
    numbers: npt.NDArray[np.int64]
    columns: pa.RecordBatch
    read: float
    rejected: dict[int, str] = field(default_factory=dict)


def schema_of(file: InputFile) -> pa.Schema:
    """Return the columns of a file; in a CSV file all are text.

    :raises OperatorError: the file can't be read, or names a column twice
    """
    with _readable(file):
        if file.kind == CSV:
            with closing(_csv(file, [], None)) as reader:
                names = reader.schema.names
            return pa.schema([(name, pa.binary()) for name in names])
        with pyarrow.parquet.ParquetFile(file.path) as source:
            return source.schema_arrow


def read(files: Sequence[InputFile], columns: Sequence[Sequence[str]], rows: int, start: Place) -> Iterator[Chunk]:
    """Give chunks of at most `rows` rows from a place on, each read while the one before it is worked on."""
    begins = [start, *((number, 0, 0) for number in range(start[0] + 1, len(files)))]
    return _ahead(chunk for begin in begins for chunk in _of_file(files[begin[0]], columns[begin[0]], rows, begin))


def sections(files: Sequence[InputFile], rows: int, start: Place) -> list[Place]:
    """Return this place and those after it where another process can begin to read: in a CSV file only the first.

    :raises OperatorError: a file can't be read
    """
    places = [start]
    for number in range(start[0], len(files)):
        with _readable(files[number]):
            count = 1 if files[number].kind == CSV else len(_row_groups_of(files[number], rows))
        places += [place for section in range(count) if (place := (number, section, 0)) > start]
    return places


def read_section(
    files: Sequence[InputFile], columns: Sequence[Sequence[str]], rows: int, start: Place
) -> Iterator[Chunk]:
    """Give the chunks from a place to the end of its section."""
    return _ahead(_of_file(files[start[0]], columns[start[0]], rows, start, one_section=True))


def _ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as reader:
        waiting = reader.submit(next, chunks, None)
        while (chunk := waiting.result()) is not None:
            waiting = reader.submit(next, chunks, None)
            yield chunk


def _of_file(
    file: InputFile, columns: Sequence[str], rows: int, start: Place, *, one_section: bool = False
) -> Iterator[Chunk]:
    file.check_unchanged()
    with _readable(file):
        if file.kind == CSV:
            yield from _rows_of_csv(file, columns, rows, start)
        else:
            yield from _row_groups(file, columns, rows, start, one_section=one_section)
    file.check_unchanged()


def _rows_of_csv(file: InputFile, columns: Sequence[str], rows: int, start: Place) -> Iterator[Chunk]:
    """Read all as text: a value that is no number is then the fault of one row, not of the file."""
    rejected: dict[int, str] = {}
    place, row = 0, 1
    with pa.OSFile(file.path) as source, closing(_csv(file, columns, rejected, source)) as reader:
        for block in reader:
            read = min(1.0, source.tell() / max(file.size, 1))
            for offset in range(0, block.num_rows, rows):
                part = block.slice(offset, rows)
                numbers, row = _numbers(row, part.num_rows, rejected)
                skipped = {bad: rejected.pop(bad) for bad in sorted(rejected) if bad < row}
                place += 1
                if place > start[2]:
                    yield Chunk(file, (start[0], 0, place), numbers, part, read, skipped)
        if rejected and place >= start[2]:
            last = pa.RecordBatch.from_pylist([], schema=reader.schema)
            yield Chunk(file, (start[0], 0, place + 1), np.empty(0, np.int64), last, 1.0, rejected)


def _numbers(first: int, count: int, rejected: dict[int, str]) -> tuple[npt.NDArray[np.int64], int]:
    """Return the numbers of `count` rows from `first` on that are not rejected, and the number after the last."""
    end = first + count
    while (more := first + count + sum(first <= bad < end for bad in rejected)) != end:
        end = more
    numbers = np.arange(first, end, dtype=np.int64)
    return (numbers[~np.isin(numbers, list(rejected))] if rejected else numbers), end


def _csv(file: InputFile, columns: Sequence[str], rejected: dict[int, str] | None, source: Any = None) -> Any:
    def skip(row: Any) -> str:
        if rejected is not None:
            rejected[row.number - 1] = f"has {row.actual_columns} columns, the header has {row.expected_columns}"
        return "skip"

    return pyarrow.csv.open_csv(
        source or file.path,
        # One thread: only then rows that can't be split have a number.
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        convert_options=pyarrow.csv.ConvertOptions(
            check_utf8=False,
            include_columns=list(columns),
            column_types={name: pa.binary() for name in columns},
        ),
    )


def _row_groups(
    file: InputFile, columns: Sequence[str], rows: int, start: Place, *, one_section: bool
) -> Iterator[Chunk]:
    number, begin, done_before = start
    with pyarrow.parquet.ParquetFile(file.path, buffer_size=1 << 20) as source:
        sizes = _sizes(source)
        done = 0
        for section, groups in enumerate(_together(sizes, rows)):
            first, place = done, 0
            done += sum(sizes[group] for group in groups)
            if section < begin or not groups or (one_section and section > begin):
                continue
            for batch in source.iter_batches(rows, row_groups=groups, columns=list(columns)):
                numbers = np.arange(first + 1, first + 1 + batch.num_rows, dtype=np.int64)
                first, place = first + batch.num_rows, place + 1
                if section > begin or place > done_before:
                    yield Chunk(file, (number, section, place), numbers, batch, first / max(sum(sizes), 1))


def _row_groups_of(file: InputFile, rows: int) -> list[list[int]]:
    with pyarrow.parquet.ParquetFile(file.path) as source:
        return list(_together(_sizes(source), rows))


def _sizes(source: Any) -> list[int]:
    return [source.metadata.row_group(group).num_rows for group in range(source.num_row_groups)]


def _together(sizes: Sequence[int], rows: int) -> Iterator[list[int]]:
    """Put small row groups together, so that each read is worth its cost."""
    groups: list[int] = []
    for group, size in enumerate(sizes):
        if groups and sum(sizes[each] for each in groups) + size > rows:
            yield groups
            groups = []
        groups.append(group)
    yield groups


@contextmanager
def _readable(file: InputFile) -> Iterator[None]:
    """Turn what the reader raises into one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise OperatorError(
            f"{file.path}: can't be read as {file.kind[1:]} ({quoted(cause, _SHOWN)}); replace it with a whole file."
        ) from None
