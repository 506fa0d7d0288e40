"""Which types of columns can hold a declared input."""

from __future__ import annotations

import pyarrow as pa

from serving.domain.tensors import Datatype, TensorSpec


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column holds text or bytes."""
    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    views = (types.is_string_view, types.is_binary_view, types.is_fixed_size_binary)
    return any(test(kind) for test in (*tests, *views))


def element(kind: pa.DataType) -> pa.DataType:
    """Return the type of the elements: of a list what it holds, of a dictionary its values."""
    while True:
        if pa.types.is_dictionary(kind) or (is_list(kind)):
            kind = kind.value_type
        else:
            return kind


def fits(spec: TensorSpec, kind: pa.DataType, *, key: bool = False) -> bool:
    """Return whether some values of a column's type can be those of a declared tensor; a key may be a number."""
    inner, types = element(kind), pa.types
    if is_text(inner):
        return True
    if spec.holds_bytes:
        return bool(types.is_null(inner) or (key and types.is_integer(inner)))
    numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_null)
    if spec.datatype is Datatype.BOOL:
        return bool(types.is_boolean(inner) or types.is_null(inner))
    return any(test(inner) for test in (*numbers, types.is_boolean))


def is_list(kind: pa.DataType) -> bool:
    """Return whether a column holds lists."""
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
