"""Turn NumPy arrays into TensorFlow's tensors, and back, without TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ._proto import prediction_service_pb2 as pb
from .errors import InvalidRequest, ServerFault

Array = npt.NDArray[Any]

_HALF = "half_val"
_FIELDS: Mapping[int, tuple[str, Any]] = {
    pb.DT_BOOL: ("bool_val", "?"),
    pb.DT_INT8: ("int_val", "<i1"),
    pb.DT_INT16: ("int_val", "<i2"),
    pb.DT_INT32: ("int_val", "<i4"),
    pb.DT_INT64: ("int64_val", "<i8"),
    pb.DT_UINT8: ("int_val", "<u1"),
    pb.DT_UINT16: ("int_val", "<u2"),
    pb.DT_UINT32: ("uint32_val", "<u4"),
    pb.DT_UINT64: ("uint64_val", "<u8"),
    pb.DT_HALF: (_HALF, "<f2"),
    pb.DT_BFLOAT16: (_HALF, "<u2"),
    pb.DT_FLOAT: ("float_val", "<f4"),
    pb.DT_DOUBLE: ("double_val", "<f8"),
    pb.DT_STRING: ("string_val", object),
}
"""The field of each type's elements, and how NumPy holds them; bfloat16, which it has not, as 16 bits."""

_TYPES: Mapping[Any, pb.DataType.ValueType] = {
    np.dtype(held): pb.DataType.Value(pb.DataType.Name(kind))  # type: ignore[arg-type]
    for kind, (_, held) in _FIELDS.items()
    if kind != pb.DT_BFLOAT16
}


def to_proto(name: str, values: npt.ArrayLike, *, bfloat16: bool = False) -> pb.TensorProto:
    """Return an array as a message; `str` is sent as UTF-8, and with `bfloat16` FP32 is rounded to that.

    :raises InvalidRequest: TensorFlow has no such type
    """
    array = _array(values)
    kind = _TYPES.get(array.dtype.newbyteorder("<") if array.dtype.kind != "O" else array.dtype)
    if kind is None or (bfloat16 and kind != pb.DT_FLOAT):
        wanted = "FP32 for bfloat16" if bfloat16 else "numbers, booleans or text"
        raise InvalidRequest(f"input {name!a} holds {array.dtype}; give {wanted}.")
    shape = pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=size) for size in array.shape])
    if kind == pb.DT_STRING:
        return pb.TensorProto(dtype=kind, tensor_shape=shape, string_val=[_bytes(name, item) for item in array.flat])
    held = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    if bfloat16:
        bits = held.view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to the nearest, ties to even
        held = np.where(np.isnan(held), 0x7FC0, rounded).astype("<u2")
        kind = pb.DT_BFLOAT16
    return pb.TensorProto(dtype=kind, tensor_shape=shape, tensor_content=held.tobytes())


def from_proto(name: str, message: pb.TensorProto) -> Array:
    """Return a message as an array; text is `bytes`, bfloat16 is FP32.

    :raises ServerFault: the message has a type that is not known here, or its elements do not fill its shape
    """
    if message.dtype not in _FIELDS:
        raise ServerFault(f"output {name!a} has the type {type_name(message.dtype)}, which this client can't read.")
    field, held = _FIELDS[message.dtype]
    shape = [dim.size for dim in message.tensor_shape.dim]
    if message.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ServerFault(f"output {name!a} has the shape {shape}, which leaves a size open.")
    count = math.prod(shape)
    if message.tensor_content:
        width = np.dtype(held).itemsize
        if message.dtype == pb.DT_STRING or len(message.tensor_content) != count * width:
            raise ServerFault(f"output {name!a} has {len(message.tensor_content)} bytes for the shape {shape}.")
        array: Array = np.frombuffer(message.tensor_content, held)
    else:
        array = _filled(name, list(getattr(message, field)), count, shape, held, message.dtype)
    if message.dtype == pb.DT_BFLOAT16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.reshape(shape)


def type_name(kind: int) -> str:
    """Return TensorFlow's name of a type without its prefix, or the number of one that has no name here."""
    return pb.DataType.Name(kind).removeprefix("DT_") if kind in pb.DataType.values() else str(kind)  # type: ignore[arg-type]


def _filled(name: str, values: list[Any], count: int, shape: list[int], held: Any, kind: int) -> Array:
    """Return the elements of a typed field: the last one fills the rest of the shape; no element means zeros."""
    if len(values) > count:
        raise ServerFault(f"output {name!a} has {len(values)} elements for the shape {shape}.")
    empty: Any = b"" if kind == pb.DT_STRING else 0
    values = values + [values[-1] if values else empty] * (count - len(values))
    if kind == pb.DT_HALF:
        return np.array(values, "<u2").view("<f2")
    array = np.empty(count, held)
    try:
        array[:] = values
    except OverflowError as error:
        raise ServerFault(f"output {name!a} holds an element that is no {type_name(kind)} ({error}).") from None
    return array


def _array(values: npt.ArrayLike) -> Array:
    """Return values as an array; text as objects, since NumPy's own text types lose a final NUL and convert numbers."""
    try:
        array: Array = np.asarray(values)
    except ValueError:  # bytes beside text, or rows of different lengths
        return np.asarray(values, object)
    if array.dtype.kind not in "US":
        return array
    return array.astype(object) if isinstance(values, np.ndarray) else np.asarray(values, object)


def _bytes(name: str, item: object) -> bytes:
    if isinstance(item, str):
        try:
            return item.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"input {name!a} holds {item!a}, which UTF-8 can't encode.") from None
    if isinstance(item, bytes):
        return item
    raise InvalidRequest(f"input {name!a} holds {item!a}; give numbers, booleans, or text as str or bytes.")
