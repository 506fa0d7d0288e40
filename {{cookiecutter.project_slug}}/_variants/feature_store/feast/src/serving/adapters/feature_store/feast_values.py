"""Convert declared features to Feast's types and values, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Bool, Bytes, FeastType, Float32, Float64, Int32, Int64

from serving.domain.errors import FeaturesOutdated
from serving.domain.features import Feature
from serving.domain.ports import Column
from serving.domain.tensors import Datatype, Tensor

_KINDS: Mapping[Datatype, str] = {
    Datatype.BOOL: "bool",
    Datatype.INT8: "int32",
    Datatype.INT16: "int32",
    Datatype.INT32: "int32",
    Datatype.INT64: "int64",
    Datatype.UINT8: "int32",
    Datatype.UINT16: "int32",
    Datatype.UINT32: "int64",
    Datatype.UINT64: "bytes",
    Datatype.FP16: "float",
    Datatype.FP32: "float",
    Datatype.FP64: "double",
    Datatype.BYTES: "bytes",
    Datatype.TEXT: "bytes",
}
"""The narrowest Feast type that holds every value; UINT64 is stored as bytes."""

_TYPES: Mapping[str, Any] = {
    "bool": Bool,
    "int32": Int32,
    "int64": Int64,
    "float": Float32,
    "double": Float64,
    "bytes": Bytes,
}


def feast_type(feature: Feature) -> FeastType:
    """Return the Feast type of a feature; arrays are flattened."""
    plain: FeastType = _TYPES[_KINDS[feature.datatype]]
    return Array(plain) if feature.shape and not _packed(feature) else plain


def to_values(feature: Feature, tensor: Tensor) -> list[Value]:
    """Return one value per row."""
    field = _field(feature)
    if _packed(feature):
        return [Value(bytes_val=row.tobytes()) for row in np.ascontiguousarray(tensor, feature.datatype.dtype)]
    if not feature.shape:
        return [Value(**{field: element}) for element in tensor.tolist()]
    values = []
    for row in tensor:
        value = Value()
        getattr(value, field).val.extend(row.ravel().tolist())
        getattr(value, field).SetInParent()  # an empty array is an array
        values.append(value)
    return values


def to_column(
    feature: Feature, vector: GetOnlineFeaturesResponse.FeatureVector, rows: Sequence[int], count: int
) -> Column:
    """Convert Feast's answer for one feature: a value for each of `rows`, missing for the others of `count`.

    :raises FeaturesOutdated: a stored value has another type or length than the feature
    """
    cells: list[Any] = [None] * count
    times = [0] * count
    for row, value, status, time in zip(rows, vector.values, vector.statuses, vector.event_timestamps, strict=True):
        # From Redis, a missing value comes as present but empty.
        if status == FieldStatus.PRESENT and value.WhichOneof("val") is not None:
            cells[row], times[row] = _cell(feature, value), max(time.seconds, 0)
    return Column.of_cells(feature, cells, times)


def _cell(feature: Feature, value: Value) -> Any:
    field = value.WhichOneof("val")
    if field != _field(feature):
        raise FeaturesOutdated.of(feature.name, str(field).removesuffix("_val"), feature.form)
    content = getattr(value, field)
    if feature.datatype.holds_bytes:
        return content
    dtype = feature.datatype.dtype
    if _packed(feature):
        wide = np.frombuffer(content, dtype) if len(content) % dtype.itemsize == 0 else np.empty(0)
    else:
        wide = np.asarray(content.val if feature.shape else [content])
    narrow = wide.astype(dtype)
    changed = dtype.kind in "iu" and not np.array_equal(narrow, wide)
    if changed or narrow.size != int(np.prod(feature.shape)):
        raise FeaturesOutdated.of(feature.name, f"{str(field).removesuffix('_val')}[{wide.size}]", feature.form)
    return narrow.reshape(feature.shape)


def _field(feature: Feature) -> str:
    return f"{_KINDS[feature.datatype]}{'_list' if feature.shape and not _packed(feature) else ''}_val"


def _packed(feature: Feature) -> bool:
    return feature.datatype is Datatype.UINT64
