"""The elements of a tensor as JSON values, exactly: no integer and no float32 changes on its way."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from serving.domain.errors import InvalidRequest, quoted
from serving.domain.tensors import Datatype, Tensor, TensorSpec
from serving.online.open_inference import objects

_EXACT = 1 << 53  # a larger number that JSON writes with a point may have been rounded
_NAMES = {str: "text", bool: "true or false", type(None): "null", list: "a list", dict: "an object"}


def from_json(spec: TensorSpec, rows: int, data: Any) -> Tensor:
    """Return the tensor that `data` holds, flat or nested, in row-major order."""
    shape = (rows, *spec.row_shape)
    values = _flat(spec, shape, data)
    expected = rows * spec.row_elements
    if len(values) != expected:
        raise InvalidRequest(f"input {quoted(spec.name)}: has {len(values)} elements, {list(shape)} has {expected}.")
    kinds = set(map(type, values))
    if spec.holds_bytes:
        _check(spec, kinds, {str}, "text")
        return objects([value.encode() for value in values], shape)
    if spec.datatype is Datatype.BOOL:
        _check(spec, kinds, {bool}, "true or false")
        return np.array(values, spec.dtype).reshape(shape)
    if spec.is_float:
        _check(spec, kinds, {int, float, type(None)}, "a number")
        # Null is how JSON writes NaN, and NumPy reads it so. What is too large becomes an infinity, refused by its row.
        with np.errstate(over="ignore"):
            return np.array(values, spec.dtype).reshape(shape)
    _check(spec, kinds, {int, float}, "an integer")
    return _integers(spec, values, floats=float in kinds).reshape(shape)


def to_json(spec: TensorSpec, tensor: Tensor) -> Any:
    """Return what a tensor is in JSON: its elements, row by row.

    :raises InvalidRequest: it holds bytes that are no text, which JSON can't write
    """
    if not spec.holds_bytes:
        return tensor.ravel()
    try:
        return [item.decode() for item in tensor.ravel()]
    except UnicodeDecodeError:
        raise InvalidRequest(
            f"output {quoted(spec.name)}: holds bytes that are not UTF-8; ask for it with the parameter binary_data."
        ) from None


def _flat(spec: TensorSpec, shape: tuple[int, ...], data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise InvalidRequest(f"input {quoted(spec.name)}: data must be a list.")
    values: list[Any] = data
    for size in shape[1:]:
        if not any(type(item) is list for item in values):
            break
        if any(type(item) is not list or len(item) != size for item in values):
            raise InvalidRequest(f"input {quoted(spec.name)}: the lists in data don't have the shape {list(shape)}.")
        values = list(chain.from_iterable(values))
    return values


def _check(spec: TensorSpec, kinds: set[type], allowed: set[type], what: str) -> None:
    for kind in sorted(kinds - allowed, key=str):
        raise InvalidRequest(
            f"input {quoted(spec.name)}: an element is {_NAMES.get(kind, 'a number')}, {spec.wire} must be {what}."
        )


def _integers(spec: TensorSpec, values: list[Any], *, floats: bool) -> Tensor:
    if floats and any(type(value) is float and not (value.is_integer() and abs(value) <= _EXACT) for value in values):
        raise InvalidRequest(f"input {quoted(spec.name)}: an element is not an integer that can be held exactly.")
    try:
        return np.array([int(value) for value in values] if floats else values, spec.dtype)
    except OverflowError:
        limits = np.iinfo(spec.dtype)
        raise InvalidRequest(
            f"input {quoted(spec.name)}: an element is outside {limits.min} to {limits.max}."
        ) from None
