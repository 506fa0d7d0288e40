"""Score chunks of rows with the served model, through the code that answers calls."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from serving.domain.deadline import Deadline
from serving.domain.errors import InvalidRequest, ModelFailed, NotFound
from serving.domain.tensors import Tensor, Tensors, TensorSpec
from serving.offline.score import layout as names
from serving.offline.score.chunks import Chunk, Place
from serving.offline.score.conversion import Faults, refused_rows, tensor_of
from serving.offline.score.counts import Counts, Refusal, Staleness
from serving.offline.score.layout import Layout, Source, parts
from serving.offline.score.moments import HistoryStore, moments_of
from serving.offline.score.output_columns import arrow_type, flags_column, key_column, output_column
from serving.prediction.pipeline import Answer, Pipeline

_OF_A_ROW = (InvalidRequest, ModelFailed, NotFound)
"""Failures that one row can cause; any other ends the run."""

_Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Scored:
    """Hold the output of one chunk; where the next one begins, and the share of the file that was read, as it has."""

    batch: pa.RecordBatch
    refusals: list[Refusal]
    counts: Counts
    after: Place
    read: float


@dataclass(frozen=True)
class Scorer:
    """Score chunks; `timeout` bounds the work on one, in seconds."""

    pipeline: Pipeline
    layout: Layout
    staleness: Staleness
    timeout: float
    history: HistoryStore | None = None

    @property
    def schema(self) -> pa.Schema:
        """The columns of the parts: a file is its number; version and digest, the same in each row, are left out."""
        outputs = [pa.field(spec.name, arrow_type(spec)) for spec in self.pipeline.signature.outputs]
        keys = list(self.layout.keys) or [pa.field(names.FILE, pa.int32()), pa.field(names.ROW, pa.int64())]
        flags = [pa.field(name, pa.string()) for name in (names.DEFAULTED, names.LAST_KNOWN)]
        return pa.schema([*keys, *outputs, *(flags if self.layout.source is not Source.COLUMNS else [])])

    async def score(self, chunk: Chunk) -> Scored:
        """Return the output of the rows that were not refused."""
        count = chunk.columns.num_rows
        found = {number: ("", reason) for number, reason in chunk.rejected.items()}
        inputs, moments, faults = self._converted(chunk)
        good = np.array([row for row in range(count) if row not in faults], np.intp) if faults else None
        answer, late = await self._answered(_take(inputs, good), moments if good is None else moments[good])
        places = np.arange(count) if good is None else good
        faults |= {int(places[row]): fault for row, fault in late.items()}
        if late:
            places = np.delete(places, list(late))
        found |= {int(chunk.numbers[row]): fault for row, fault in faults.items()}
        refusals = [Refusal(chunk.file.path, row, *fault) for row, fault in sorted(found.items())]
        counts = Counts(
            len(places),
            len(refusals),
            Counter({name: len(rows) for name, rows in answer.defaulted.items()}),
            Counter({name: len(rows) for name, rows in answer.last_known.items()}),
            Counter(self.staleness.stale),
        )
        return Scored(self._batch(chunk, places, answer), refusals, counts, chunk.after, chunk.read)

    def _converted(self, chunk: Chunk) -> tuple[Tensors, npt.NDArray[np.int64], dict[int, tuple[str, str]]]:
        """Return the inputs, the dates, and the rows that the checks of a call would refuse."""
        signature, batch = self.pipeline.signature, chunk.columns
        inputs: dict[str, Tensor] = {}
        faults: dict[int, tuple[str, str]] = {}

        def refuse(column: str, rows: Faults) -> None:
            faults.update(
                {row: (column, f"input '{column}': {reason}.") for row, reason in rows.items() if row not in faults}
            )

        for spec in signature.inputs:
            inputs[spec.name], bad = _input(spec, batch)
            refuse(spec.name, bad)
        moments = np.empty(batch.num_rows, np.int64)
        if self.layout.date:
            moments, bad = moments_of(batch.column(self.layout.date))
            refuse(self.layout.date, bad)
        try:
            signature.check_inputs(inputs)  # as for a call: of all rows at once
        except InvalidRequest:
            for spec in signature.inputs:
                refuse(spec.name, refused_rows(spec, inputs[spec.name]))
        return inputs, moments, faults

    async def _answered(
        self, inputs: Tensors, moments: npt.NDArray[np.int64]
    ) -> tuple[Answer, dict[int, tuple[str, str]]]:
        """Return the answer for the rows that can be answered, all in one batch, and why the others can't."""
        rows = np.arange(len(moments))
        try:
            return await self._run(inputs, moments, rows), {}
        except _OF_A_ROW:
            faults = await self._search(inputs, moments, rows)
        return await self._run(inputs, moments, np.delete(rows, list(faults))), faults

    async def _search(self, inputs: Tensors, moments: npt.NDArray[np.int64], rows: _Rows) -> dict[int, tuple[str, str]]:
        """Find the rows that fail alone, by halves."""
        faults: dict[int, tuple[str, str]] = {}
        waiting = [rows]
        while waiting:
            part = waiting.pop()
            try:
                await self._run(inputs, moments, part)
            except _OF_A_ROW as error:
                if len(part) > 1:
                    middle = len(part) // 2
                    waiting += [part[:middle], part[middle:]]
                else:
                    entity = next(iter(inputs)) if isinstance(error, NotFound) else ""
                    faults[int(part[0])] = entity, str(error)
        return faults

    async def _run(self, inputs: Tensors, moments: npt.NDArray[np.int64], rows: _Rows) -> Answer:
        self.staleness.stale.clear()
        if not len(rows):
            outputs = self.pipeline.signature.outputs
            return Answer({spec.name: np.empty((0, *spec.row_shape), spec.dtype) for spec in outputs})
        if self.history is not None:
            self.history.moments = moments[rows]
        part = inputs if len(rows) == len(moments) else _take(inputs, rows)
        return await self.pipeline.run(part, len(rows), Deadline(self.timeout))

    def _batch(self, chunk: Chunk, places: _Rows, answer: Answer) -> pa.RecordBatch:
        whole = len(places) == chunk.columns.num_rows
        columns: list[pa.Array] = []
        for key in self.layout.keys:
            column = chunk.columns.column(key.name)
            columns.append(key_column(column if whole else column.take(pa.array(places)), key.type))
        if not self.layout.keys:
            number = pa.repeat(pa.scalar(chunk.after[0], pa.int32()), len(places))
            columns += [number, pa.array(chunk.numbers if whole else chunk.numbers[places])]
        schema = self.schema
        for spec in self.pipeline.signature.outputs:
            columns.append(output_column(answer.outputs[spec.name], spec))
        if self.layout.source is not Source.COLUMNS:
            columns += [flags_column(answer.defaulted, len(places)), flags_column(answer.last_known, len(places))]
        return pa.RecordBatch.from_arrays(columns, schema=schema)


def _input(spec: TensorSpec, batch: pa.RecordBatch) -> tuple[Tensor, Faults]:
    """Return an input from its column, or from one column for each number of an array."""
    columns = parts(spec, batch.schema)
    if columns == [spec.name]:
        return tensor_of(spec, batch.column(spec.name))
    single = TensorSpec(spec.name, spec.datatype, allow_nan=spec.allow_nan, max_bytes=spec.max_bytes)
    found = [tensor_of(single, batch.column(name)) for name in columns]
    faults: Faults = {}
    for _, bad in reversed(found):
        faults |= bad
    values = np.stack([tensor for tensor, _ in found], axis=1)
    return np.ascontiguousarray(values.reshape(len(values), *spec.row_shape)), faults


def _take(tensors: Tensors, rows: _Rows | None) -> Tensors:
    return tensors if rows is None else {name: tensor[rows] for name, tensor in tensors.items()}
