"""The output: all parts in one file, which appears whole."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from serving.domain.references import Reference
from serving.offline.score import layout as names
from serving.offline.score.files import CSV
from serving.offline.score.work import Part, Work, sync_folder

_TITLES = ("file", "row", "column", "reason")


def publish(work: Work, schema: pa.Schema, reference: Reference, output: Path) -> None:
    """Write the output and the refused rows beside it; the output gets its name last."""
    staged = work.folder / f"result{output.suffix}"
    final = _Final(schema, reference, csv=output.suffix.lower() == CSV)
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


def publish_refusals(work: Work, output: Path) -> Path:
    """Write the rows that were refused so far; without any, there is no such file."""
    target = output.with_name(f"{output.name}.rejected.csv")
    if not any(part.counts.rejected for part in work.parts):
        target.unlink(missing_ok=True)
        return target
    staged = work.folder / "rejected.csv"
    with staged.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_TITLES)
        for part in work.parts:
            writer.writerows((each.file, each.row, each.column, each.reason) for each in part.refused())
        file.flush()
        os.fsync(file.fileno())
    staged.replace(target)
    return target


class _Final:
    """Bring parts to the columns of the output."""

    def __init__(self, schema: pa.Schema, reference: Reference, *, csv: bool) -> None:
        self._csv = csv
        self._constant = {names.VERSION: reference.version, names.DIGEST: reference.digest}
        flags = (names.DEFAULTED, names.LAST_KNOWN)
        fields = [field for field in schema if field.name not in flags]
        fields += [pa.field(name, pa.string()) for name in (*self._constant, *flags)]
        self._schema = pa.schema(fields)

    def writer(self, file: Any) -> Any:
        """Return the writer of the whole output."""
        if self._csv:
            return pyarrow.csv.CSVWriter(file, self._flat(self._schema.empty_table()).schema)
        return pyarrow.parquet.ParquetWriter(
            file, self._schema, use_dictionary=[*names.ADDED, names.FILE], store_schema=True
        )

    def table(self, part: Part) -> pa.Table:
        """Return the rows of a part; they stay on the disk until they are written."""
        with pa.memory_map(str(part.rows)) as file:
            rows = pyarrow.ipc.open_file(file).read_all()
        columns = []
        for field in self._schema:
            if field.name in self._constant:
                column = pa.repeat(pa.scalar(self._constant[field.name]), len(rows))
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
            if not pa.types.is_fixed_size_list(field.type):
                columns[field.name] = column
                continue
            for place in range(field.type.list_size):
                columns[f"{field.name}_{place}"] = pa.compute.list_element(column, place)
        return pa.table(columns)
