"""Convert between callers' values (lists, numbers, strings, arrays) and raw bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidRequest
from .model import Tensor, TensorMetadata

_LENGTH = struct.Struct("<I")

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype("O"),
}
"""NumPy types of the protocol's datatypes, without BF16, which NumPy lacks."""


def to_tensor(spec: TensorMetadata, value: npt.ArrayLike) -> Tensor:
    """Convert a caller's value to an array of the declared datatype and shape.

    :raises InvalidRequest: the type or shape differs, or the datatype can't hold a number
    """
    dtype = DTYPES.get(spec.datatype)
    if dtype is None:
        raise InvalidRequest(f"input {spec.name!a}: this client can't send {spec.datatype}.")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        row = int(np.argwhere(np.ma.getmaskarray(value))[0][0])
        raise InvalidRequest(f"input {spec.name!a}: row {row} is masked; fill the array first, with `filled()`.")
    try:
        array = np.asarray(value, dtype=object if dtype.hasobject else None)
    except (ValueError, TypeError):
        raise InvalidRequest(f"input {spec.name!a}: its rows differ in shape; must be {_wanted(spec)}.") from None
    tensor = _encoded(spec, array) if dtype.hasobject else _converted(spec, value, array, dtype)
    if tensor.ndim != len(spec.shape) or any(
        size not in (-1, actual) for size, actual in zip(spec.shape, tensor.shape, strict=True)
    ):
        raise InvalidRequest(f"input {spec.name!a}: its shape is {list(tensor.shape)}, must be {_wanted(spec)}.")
    return tensor


def _wanted(spec: TensorMetadata) -> str:
    shape = ", ".join("rows" if size < 0 else str(size) for size in spec.shape)
    return f"[{shape}], a list or an array with one {'value' if len(spec.shape) == 1 else 'entry'} per row"


def _converted(spec: TensorMetadata, value: npt.ArrayLike, array: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """Convert numbers without loss, except for the precision of floats."""
    if array.dtype.kind == "O":  # numbers in an object array, as from pandas
        array = np.asarray(array.tolist())
    if dtype.kind in "iu" and array.dtype.kind in "fO":
        items = np.asarray(value, dtype=object)
        if all(isinstance(item, Integral) for item in items.flat):
            return _integers(spec, items, dtype)  # NumPy converts integers on both sides of 2^63 to floats
    kinds, word = ("b", "True or False") if dtype.kind == "b" else ("iuf", "a number")
    if array.size and array.dtype.kind not in kinds:
        items = np.asarray(value, dtype=object)
        fits = np.array([np.asarray(item).dtype.kind in kinds for item in items.flat])
        raise _refusal(spec, items, fits, word)
    if dtype.kind in "iu":
        return _integers(spec, array, dtype)
    with np.errstate(over="ignore"):
        tensor = array.astype(dtype)
    if dtype.kind == "f":
        largest = f"{np.finfo(dtype).max:.8g}"
        _check(spec, array, np.isfinite(tensor) | ~np.isfinite(array), f"-{largest} to {largest}")
    return tensor


def _integers(spec: TensorMetadata, array: Tensor, dtype: np.dtype[Any]) -> Tensor:
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
        _check(spec, array, np.trunc(array) == array, "a whole number; round it first")
    limits = np.iinfo(dtype)
    # Not `<= max`: as a float, the largest INT64 rounds up by one.
    fits = (array >= limits.min) & (array < limits.max + 1)
    _check(spec, array, fits, f"{limits.min} to {limits.max}")
    return array.astype(dtype)


def _encoded(spec: TensorMetadata, array: Tensor) -> Tensor:
    """Return strings and bytes as bytes."""
    _check(spec, array, np.array([isinstance(item, str | bytes) for item in array.flat], dtype=bool), "text or bytes")
    try:
        return objects([item.encode() if isinstance(item, str) else item for item in array.flat], array.shape)
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"input {spec.name!a}: {error.object[:64]!a} can't be encoded as UTF-8.") from None


def _check(spec: TensorMetadata, array: Tensor, fits: npt.NDArray[np.bool_], word: str) -> None:
    if not fits.all():
        raise _refusal(spec, array.astype(object), fits, word)


def _refusal(spec: TensorMetadata, items: Tensor, fits: npt.NDArray[np.bool_], word: str) -> InvalidRequest:
    """Return the error that names the first value that does not fit."""
    first = int(np.argmin(fits))
    where = f"row {np.unravel_index(first, items.shape)[0]} has" if items.ndim else "has"
    return InvalidRequest(
        f"input {spec.name!a}: {where} {ascii(items.flat[first])[:64]}, must be {word} ({spec.datatype})."
    )


def to_raw(tensor: Tensor) -> bytes:
    """Return the raw bytes of the elements: little-endian, row-major, BYTES with length prefixes."""
    if tensor.dtype.hasobject:
        return b"".join(_LENGTH.pack(len(item)) + item for item in tensor.ravel())
    return tensor.tobytes()


def from_raw(datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """Return the array in these raw bytes, read-only except for BYTES.

    :raises ValueError: they are not of this datatype and shape
    """
    dtype = DTYPES[datatype]
    if not dtype.hasobject:
        return shaped(np.frombuffer(raw, dtype), shape)
    items, offset = [], 0
    while offset < len(raw):
        start = offset + _LENGTH.size
        offset = start + int.from_bytes(raw[offset:start], "little")
        items.append(raw[start:offset])
    if offset != len(raw):
        raise ValueError("an element ends beyond the contents")
    return objects(items, shape)


def objects(items: Sequence[object], shape: Sequence[int]) -> Tensor:
    """Return the items unchanged, as an object array."""
    tensor = np.empty(len(items), dtype=object)
    tensor[:] = items
    return shaped(tensor, shape)


def shaped(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the elements in this shape.

    :raises ValueError: it has another number of elements
    """
    if any(size < 0 for size in shape):  # NumPy would choose
        raise ValueError(f"shape {list(shape)}")
    return tensor.reshape(shape)
