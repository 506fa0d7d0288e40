"""The output: all parts in one file, which appears whole."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from serving.offline.score import layout as names
from serving.offline.score.files import CSV
from serving.offline.score.scorer import Scorer
from serving.offline.score.work import Part, Work, sync_folder

_REPEATED = pa.dictionary(pa.int32(), pa.string())
_TITLES = ("file", "row", "column", "reason")


def publish(work: Work, scorer: Scorer, files: Sequence[str], output: Path) -> None:
    """Write the output and the refused rows beside it; the output gets its name last."""
    staged = work.folder / f"result{output.suffix}"
    final = _Final(scorer, files, csv=output.suffix.lower() == CSV)
    with staged.open("wb") as file:
        with final.writer(file) as writer:
            for part in work.parts:
                if part.counts.rows:
                    writer.write_table(final.table(part))
        file.flush()
        os.fsync(file.fileno())
    publish_refusals(work, output)
    staged.replace(output)
    sync_folder(output.absolute().parent)


def publish_refusals(work: Work, output: Path, *unfinished: Part) -> Path:
    """Write the rows that were refused so far; without any, there is no such file."""
    target = output.with_name(f"{output.name}.rejected.csv")
    parts = [*work.parts, *unfinished]
    if not any(part.counts.rejected for part in parts):
        target.unlink(missing_ok=True)
        return target
    staged = work.folder / "rejected.csv"
    with staged.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_TITLES)
        for part in parts:
            writer.writerows((each.file, each.row, each.column, each.reason) for each in part.refused())
        file.flush()
        os.fsync(file.fileno())
    staged.replace(target)
    return target


class _Final:
    """Bring parts to the columns of the output."""

    def __init__(self, scorer: Scorer, files: Sequence[str], *, csv: bool) -> None:
        reference, schema = scorer.pipeline.reference, scorer.schema
        self._csv, self._numbered = csv, not scorer.layout.keys
        self._files = pa.array(files, pa.string())
        self._constant = {names.VERSION: reference.version, names.DIGEST: reference.digest}
        flags = (names.DEFAULTED, names.LAST_KNOWN)
        fields = [
            pa.field(names.FILE, _REPEATED) if self._numbered and field.name == names.FILE else field
            for field in schema
            if field.name not in flags
        ]
        fields += [pa.field(name, _REPEATED) for name in self._constant]
        fields += [pa.field(name, pa.string()) for name in flags]
        self._schema = pa.schema(fields)

    def writer(self, file: Any) -> Any:
        """Return the writer of the whole output."""
        if self._csv:
            return pyarrow.csv.CSVWriter(file, self._flat(self._schema.empty_table()).schema)
        return pyarrow.parquet.ParquetWriter(
            file,
            self._schema,
            use_dictionary=[*names.ADDED, names.FILE],
            column_encoding={names.ROW: "DELTA_BINARY_PACKED"} if self._numbered else None,
        )

    def table(self, part: Part) -> pa.Table:
        """Return the rows of a part; they stay on the disk until they are written."""
        with pa.memory_map(str(part.rows)) as file:
            rows = pyarrow.ipc.open_file(file).read_all()
        columns = []
        for field in self._schema:
            if field.name in self._constant:
                first = pa.repeat(pa.scalar(0, pa.int32()), len(rows))
                column = pa.DictionaryArray.from_arrays(first, [self._constant[field.name]])
            elif self._numbered and field.name == names.FILE:
                numbers = rows.column(field.name).combine_chunks()
                column = pa.DictionaryArray.from_arrays(numbers, self._files)
            elif field.name in rows.schema.names:
                column = rows.column(field.name)
            else:
                column = pa.nulls(len(rows), field.type)
            columns.append(column)
        table = pa.Table.from_arrays(columns, schema=self._schema)
        return self._flat(table) if self._csv else table

    def _flat(self, table: pa.Table) -> pa.Table:
        """Return one column for each number of an array, which a CSV file can't hold."""
        columns: dict[str, Any] = {}
        for field in table.schema:
            column = table.column(field.name)
            if pa.types.is_dictionary(field.type):
                column = column.cast(pa.string())
            if not pa.types.is_fixed_size_list(field.type):
                columns[field.name] = column
                continue
            for place in range(field.type.list_size):
                columns[f"{field.name}_{place}"] = pa.compute.list_element(column, place)
        return pa.table(columns)
