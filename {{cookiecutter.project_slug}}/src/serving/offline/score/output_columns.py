"""The columns of the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from serving.domain.tensors import Datatype, Tensor, TensorSpec


def key_column(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a key as the output has it."""
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:  # bytes that are no UTF-8
        return pa.array(
            [None if cell is None else cell.decode("utf-8", "backslashreplace") for cell in column.to_pylist()]
        )


def arrow_type(spec: TensorSpec) -> pa.DataType:
    """Return the type of an output's column; an array is a list of a fixed size, row by row."""
    if spec.holds_bytes:
        kind = pa.string() if spec.datatype is Datatype.TEXT else pa.binary()
    else:
        kind = pa.from_numpy_dtype(spec.dtype)
    return pa.list_(kind, spec.row_elements) if spec.row_shape else kind


def output_column(tensor: Tensor, spec: TensorSpec) -> pa.Array:
    """Return an output as a column."""
    kind = arrow_type(spec)
    inner = kind.value_type if spec.row_shape else kind
    values = pa.array(tensor.reshape(-1), pa.binary()).cast(inner) if spec.holds_bytes else pa.array(tensor.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(values, spec.row_elements) if spec.row_shape else values


def flags_column(flags: Mapping[str, Sequence[int]], rows: int) -> pa.Array:
    """Return for each row the features that are flagged there, separated by semicolons; null if none is."""
    if not flags:
        return pa.nulls(rows, pa.string())
    texts: list[str | None] = [None] * rows
    for name, flagged in flags.items():
        for row in flagged:
            before = texts[row]
            texts[row] = f"{before};{name}" if before else name
    return pa.array(texts, pa.string())
