"""Between what callers write (lists, numbers, strings, arrays) and the bytes that travel."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
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
"""The protocol's datatypes in NumPy's terms; BF16, which NumPy has not, is not among them."""


def to_tensor(spec: TensorMetadata, value: npt.ArrayLike) -> Tensor:
    """Return a caller's value as the array that the model declares.

    :raises InvalidRequest: it has another type or shape, or numbers that the datatype can't hold
    """
    dtype = DTYPES.get(spec.datatype)
    if dtype is None:
        raise InvalidRequest(f"input {spec.name!a}: this client can't send {spec.datatype}.")
    try:
        tensor = _objects(value) if dtype.hasobject else _numbers(spec, np.asarray(value), dtype)
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(f"input {spec.name!a}: rows differ in shape, or hold no {spec.datatype}.") from None
    wanted = "[" + ", ".join("rows" if size < 0 else str(size) for size in spec.shape) + "]"
    if tensor.ndim != len(spec.shape) or any(
        size not in (-1, actual) for size, actual in zip(spec.shape, tensor.shape, strict=True)
    ):
        raise InvalidRequest(
            f"input {spec.name!a}: shape is {list(tensor.shape)}, must be {wanted}; give one value per row."
        )
    return tensor


def _numbers(spec: TensorMetadata, array: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """Convert numbers where nothing is lost but the precision of a float."""
    if array.dtype.kind not in "biuf":
        raise InvalidRequest(f"input {spec.name!a}: {_sample(array)} is no {spec.datatype}.")
    if array.dtype.kind == "f" and dtype.kind in "iu" and not np.array_equal(array, np.trunc(array)):
        raise InvalidRequest(f"input {spec.name!a}: {_sample(array)} is no {spec.datatype}; round it first.")
    if (array.dtype.kind == "b") != (dtype.kind == "b"):
        raise InvalidRequest(f"input {spec.name!a}: {_sample(array)} is no {spec.datatype}.")
    with np.errstate(over="ignore", invalid="ignore"):
        tensor = array.astype(dtype)
    if dtype.kind in "iu":
        fits = np.array_equal(tensor, array)
    else:
        fits = np.array_equal(np.isfinite(tensor), np.isfinite(array))
    if not fits:
        raise InvalidRequest(f"input {spec.name!a}: {_sample(array)} is beyond the range of {spec.datatype}.")
    return tensor


def _objects(value: npt.ArrayLike) -> Tensor:
    """Return strings and bytes as an array of bytes."""
    if isinstance(value, str | bytes):
        return np.array(_encoded(value), dtype=object)
    array = np.asarray(value, dtype=object)
    tensor = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        tensor[index] = _encoded(array[index])
    return tensor


def _encoded(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise TypeError(type(item).__name__)


def _sample(array: Tensor) -> str:
    return ascii(array.ravel()[:1].tolist())[1:-1][:64] or "an empty list"


def to_raw(tensor: Tensor) -> bytes:
    """Return the elements as they travel: little-endian, row-major, BYTES behind their lengths."""
    if tensor.dtype.hasobject:
        return b"".join(_LENGTH.pack(len(item)) + item for item in tensor.ravel())
    return tensor.tobytes()


def from_raw(datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """Return the array that travelled as these bytes.

    :raises ValueError: they are not of this datatype and shape
    """
    dtype = DTYPES[datatype]
    if not dtype.hasobject:
        return np.frombuffer(raw, dtype).reshape(shape)
    items, offset = [], 0
    while offset < len(raw):
        end = offset + _LENGTH.size + _LENGTH.unpack_from(raw, offset)[0]
        items.append(raw[offset + _LENGTH.size : end])
        offset = end
    tensor = np.empty(len(items), dtype=object)
    tensor[:] = items
    return tensor.reshape(shape)
