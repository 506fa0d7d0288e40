"""Bring whole columns to the declared types; only the rows that don't fit are looked at one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from serving.domain.errors import InvalidRequest, quoted
from serving.domain.tensors import Datatype, Tensor, TensorSpec
from serving.offline.score.column_types import element, is_list, is_text

Faults = dict[int, str]
"""Why rows can't be converted, by their place in the column."""

_EMPTY = "holds no value"
_WORDS = {b"true": True, b"1": True, b"false": False, b"0": False}


def tensor_of(spec: TensorSpec, column: pa.Array) -> tuple[Tensor, Faults]:
    """Return a column as a tensor, and what is wrong with rows; the content of those means nothing."""
    if not spec.row_shape:
        return _elements(spec, column)
    inner, bad = _flat(column, spec.row_elements)
    values, faults = _elements(spec, inner)
    rows = {place // spec.row_elements: reason for place, reason in reversed(faults.items())}
    shape = (len(column), *spec.row_shape)
    return values.reshape(shape), rows | dict.fromkeys(bad, f"is no array of {spec.row_elements} values")


def refused_rows(spec: TensorSpec, values: Tensor) -> Faults:
    """Return what the online check refuses, row by row, in its words."""
    if spec.holds_bytes:
        return {row: reason for row in range(len(values)) if (reason := _refusal(spec, values[row : row + 1]))}
    if not spec.is_float:
        return {}
    forbidden = np.isinf(values) if spec.allow_nan else ~np.isfinite(values)
    rows = np.flatnonzero(forbidden.reshape(len(values), -1).any(axis=1))
    return dict.fromkeys(rows.tolist(), spec.forbidden)


def _refusal(spec: TensorSpec, value: Tensor) -> str:
    try:
        spec.check_values(value)
    except InvalidRequest as error:
        return str(error).removeprefix(f"input {quoted(spec.name)}: ").rstrip(".")
    return ""


def _elements(spec: TensorSpec, column: pa.Array) -> tuple[Tensor, Faults]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if spec.holds_bytes:
        return _bytes(spec, column)
    if is_text(column.type):
        return _parsed(spec, column.cast(pa.binary()))
    if pa.types.is_decimal(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.float64())
    faults = {} if spec.is_float or not column.null_count else _nulls(column)
    if not spec.is_float and column.null_count:
        column = pc.fill_null(column, False if pa.types.is_boolean(column.type) else 0)
    return _typed(spec, column.to_numpy(zero_copy_only=False), faults)


def _typed(spec: TensorSpec, values: npt.NDArray[Any], faults: Faults) -> tuple[Tensor, Faults]:
    """Return numbers in the declared type; whole numbers must not change by that."""
    if values.dtype == object:  # booleans with nulls
        values = np.array([np.nan if value is None else value for value in values], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        typed = np.ascontiguousarray(values, spec.dtype)
        changed = np.empty(0, np.intp) if spec.is_float else np.flatnonzero(~_same(typed, values))
    reasons = {row: f"{quoted(values[row])} is no {spec.datatype}" for row in changed.tolist()}
    return typed, reasons | faults


def _same(typed: Tensor, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    same = np.asarray(typed == values)
    if values.dtype.kind == "f":  # the largest floats round to a limit of the type
        limits = np.iinfo(typed.dtype)
        same &= (values >= float(limits.min)) & (values < float(limits.max) + 1)
    elif typed.dtype.kind != values.dtype.kind and "b" not in (typed.dtype.kind, values.dtype.kind):
        same &= (typed >= 0) & (values >= 0)  # NumPy compares signed with unsigned numbers as floats
    return cast("npt.NDArray[np.bool_]", same)


def _parsed(spec: TensorSpec, column: pa.Array) -> tuple[Tensor, Faults]:
    """Read numbers as Python does; Arrow reads the columns without a fault, many times faster."""
    empty = pc.fill_null(pc.equal(pc.binary_length(column), 0), True)
    column = pc.if_else(empty, pa.scalar(None, pa.binary()), column)
    if spec.is_float:
        wanted = pa.float64()  # as callers' programs do, before they round to the declared type
    else:
        wanted = pa.bool_() if spec.datatype is Datatype.BOOL else pa.from_numpy_dtype(spec.dtype)
    try:
        text = column.cast(pa.string())
        if pa.types.is_integer(wanted) and pc.any(pc.match_substring(text, "x", ignore_case=True)).as_py():
            return _parsed_singly(spec, column)  # Arrow reads 0x10 as 16, Python does not
        numbers = text.cast(wanted)
    except pa.ArrowInvalid:
        return _parsed_singly(spec, column)
    return _elements(spec, numbers)


def _parsed_singly(spec: TensorSpec, column: pa.Array) -> tuple[Tensor, Faults]:
    read: Callable[[bytes], Any] = _number if spec.is_float else _truth if spec.datatype is Datatype.BOOL else _whole
    values, faults = np.zeros(len(column), spec.dtype), {}
    with np.errstate(over="ignore"):
        for row, cell in enumerate(column.to_pylist()):
            text = (cell or b"").strip()
            if not text and not spec.is_float:
                faults[row] = _EMPTY
                continue
            try:
                values[row] = read(text) if text else np.nan
            except (ValueError, KeyError, OverflowError):
                faults[row] = f"{quoted(text)} is no {spec.datatype}"
    return values, faults


def _number(text: bytes) -> float:
    if b"_" in text:  # Python's own way to group digits
        raise ValueError
    return float(text)


def _whole(text: bytes) -> int:
    if b"_" in text:
        raise ValueError
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if number != int(number):
            raise
        return int(number)


def _truth(text: bytes) -> bool:
    return _WORDS[text.lower()]


def _bytes(spec: TensorSpec, column: pa.Array) -> tuple[Tensor, Faults]:
    faults = _nulls(column) if column.null_count else {}
    if not is_text(column.type):
        column = column.cast(pa.string())
    column = pc.fill_null(column.cast(pa.binary()), b"")
    values = column.to_numpy(zero_copy_only=False)
    if spec.datatype is Datatype.TEXT:
        try:
            column.cast(pa.string())
        except pa.ArrowInvalid:
            faults |= dict.fromkeys(_not_utf8(values), "an element is not UTF-8, and this model takes text")
    return values, faults


def _not_utf8(values: npt.NDArray[Any]) -> list[int]:
    bad = []
    for row, value in enumerate(values):
        try:
            value.decode()
        except UnicodeDecodeError:
            bad.append(row)
    return bad


def _nulls(column: pa.Array) -> Faults:
    return dict.fromkeys(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist(), _EMPTY)


def _flat(column: pa.Array, size: int) -> tuple[pa.Array, Sequence[int]]:
    """Return all elements of a column of arrays, and the rows that don't have `size` of them."""
    inner = column
    while is_list(inner.type):
        inner = inner.flatten()
    if not column.null_count and len(inner) == len(column) * size and _even(column, size):
        return inner, ()
    rows, kind = [_leaves(row) for row in column.to_pylist()], element(column.type)
    bad = [place for place, row in enumerate(rows) if len(row) != size]
    for place in bad:
        rows[place] = [None] * size
    return pa.array([value for row in rows for value in row], kind), bad


def _even(column: pa.Array, size: int) -> bool:
    if is_list(column.type.value_type):
        return bool(pa.types.is_fixed_size_list(column.type) and pa.types.is_fixed_size_list(column.type.value_type))
    return bool(pc.all(pc.equal(pc.list_value_length(column), size)).as_py())


def _leaves(row: Any) -> list[Any]:
    if not isinstance(row, list):
        return [row]
    return [leaf for part in row for leaf in _leaves(part)]
