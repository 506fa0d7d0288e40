"""Turn NumPy arrays into TensorFlow's tensors, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.adapters.runtime.tensorflow_serving.proto import prediction_service_pb2 as pb
from serving.domain.errors import ModelFailed, quoted
from serving.domain.tensors import Datatype, Tensor, TensorSpec

_TYPES: Mapping[Datatype, pb.DataType.ValueType] = {
    Datatype.BOOL: pb.DT_BOOL,
    Datatype.UINT8: pb.DT_UINT8,
    Datatype.UINT16: pb.DT_UINT16,
    Datatype.UINT32: pb.DT_UINT32,
    Datatype.UINT64: pb.DT_UINT64,
    Datatype.INT8: pb.DT_INT8,
    Datatype.INT16: pb.DT_INT16,
    Datatype.INT32: pb.DT_INT32,
    Datatype.INT64: pb.DT_INT64,
    Datatype.FP16: pb.DT_HALF,
    Datatype.FP32: pb.DT_FLOAT,
    Datatype.FP64: pb.DT_DOUBLE,
    Datatype.BYTES: pb.DT_STRING,
    Datatype.TEXT: pb.DT_STRING,
}
_FIELDS = {
    pb.DT_BOOL: "bool_val",
    pb.DT_UINT32: "uint32_val",
    pb.DT_UINT64: "uint64_val",
    pb.DT_INT64: "int64_val",
    pb.DT_HALF: "half_val",
    pb.DT_FLOAT: "float_val",
    pb.DT_DOUBLE: "double_val",
    pb.DT_STRING: "string_val",
}
"""The field of each type's elements; small integers share `int_val`."""


def to_proto(tensor: Tensor, spec: TensorSpec) -> pb.TensorProto:
    """Return an array of the declared type as a message."""
    message = pb.TensorProto(dtype=_TYPES[spec.datatype])
    message.tensor_shape.dim.extend(pb.TensorShapeProto.Dim(size=size) for size in tensor.shape)
    if spec.datatype.holds_bytes:
        message.string_val.extend(tensor.ravel().tolist())
    else:
        message.tensor_content = np.ascontiguousarray(tensor, spec.dtype).tobytes()
    return message


def from_proto(message: pb.TensorProto, spec: TensorSpec) -> Tensor:
    """Return a message as an array.

    :raises ModelFailed: its type is not the declared one, or its elements do not fill its shape
    """
    if message.dtype != _TYPES[spec.datatype]:
        given, declared = (_name(kind) for kind in (message.dtype, _TYPES[spec.datatype]))
        raise ModelFailed(f"output {spec.name} is {given}, must be {declared}.")
    shape = [dim.size for dim in message.tensor_shape.dim]
    if message.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ModelFailed(f"output {spec.name} has the shape {shape}, which leaves a size open.")
    try:
        return _elements(message, spec).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise ModelFailed(f"output {spec.name}: its elements do not fill its shape ({quoted(error)}).") from None


def _name(kind: int) -> str:
    return pb.DataType.Name(kind) if kind in pb.DataType.values() else f"the type {kind}"  # type: ignore[arg-type]


def _elements(message: pb.TensorProto, spec: TensorSpec) -> Tensor:
    if message.tensor_content:
        return np.frombuffer(message.tensor_content, spec.dtype)
    values: Any = getattr(message, _FIELDS.get(message.dtype, "int_val"))
    if spec.datatype is Datatype.FP16:
        elements = np.array(values, np.uint16).view(np.float16)
    else:
        elements = np.array(values, spec.dtype)
    count = math.prod(dim.size for dim in message.tensor_shape.dim)
    if len(elements) < count:  # the last element fills the rest; no element means zeros
        last = elements[-1:] if len(elements) else np.array([b"" if spec.datatype.holds_bytes else 0], spec.dtype)
        elements = np.concatenate([elements, np.repeat(last, count - len(elements))])
    return elements
