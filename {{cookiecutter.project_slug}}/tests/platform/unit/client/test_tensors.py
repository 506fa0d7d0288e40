"""Values are sent unchanged, or refused in a sentence that names field, value and way out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.domain.tensors import Datatype
from serving_client import InvalidRequest, TensorMetadata
from serving_client.tensors import DTYPES, from_raw, to_raw, to_tensor

NUMERIC = [name for name, dtype in DTYPES.items() if not dtype.hasobject]
SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)


def spec(datatype: str, *shape: int) -> TensorMetadata:
    return TensorMetadata("x", datatype, shape or (-1,))


def refusal(datatype: str, value: Any, *shape: int) -> str:
    with pytest.raises(InvalidRequest) as caught:
        to_tensor(spec(datatype, *shape), value)
    return str(caught.value)


def test_the_client_knows_the_servers_datatypes() -> None:
    assert set(DTYPES) == {datatype.wire for datatype in Datatype}


@pytest.mark.parametrize("datatype", NUMERIC)
@given(data=st.data())
def test_numbers_are_sent_unchanged(datatype: str, data: st.DataObject) -> None:
    values = data.draw(arrays.arrays(DTYPES[datatype], SHAPES))
    tensor = to_tensor(spec(datatype, *[-1] * values.ndim), values)
    received = from_raw(datatype, tensor.shape, to_raw(tensor))
    assert received.dtype == values.dtype
    np.testing.assert_array_equal(received, values)


@pytest.mark.parametrize("datatype", NUMERIC)
@given(data=st.data())
def test_lists_are_sent_like_arrays(datatype: str, data: st.DataObject) -> None:
    values = data.draw(arrays.arrays(DTYPES[datatype], SHAPES))
    ndim = values.ndim if values.size else 1
    tensor = to_tensor(spec(datatype, *[-1] * ndim), values.tolist() if values.size else [])
    np.testing.assert_array_equal(tensor, values if values.size else values.ravel())


@given(st.lists(st.binary() | st.text(), max_size=5))
def test_text_and_bytes_are_sent_unchanged(items: list[bytes | str]) -> None:
    tensor = to_tensor(spec("BYTES"), items)
    sent = [item.encode() if isinstance(item, str) else item for item in items]
    assert from_raw("BYTES", tensor.shape, to_raw(tensor)).tolist() == sent


@given(st.binary(max_size=40), st.sampled_from(sorted(DTYPES)), st.lists(st.integers(-1, 5), max_size=3))
def test_any_contents_are_read_or_refused(raw: bytes, datatype: str, shape: list[int]) -> None:
    try:
        tensor = from_raw(datatype, shape, raw)
    except ValueError:
        return
    assert (list(tensor.shape), to_raw(tensor)) == (shape, raw)


@pytest.mark.parametrize(
    ("datatype", "value", "expected"),
    [
        ("FP32", [1, 2], [1.0, 2.0]),
        ("FP32", (np.float64(1.5), np.int8(2)), [1.5, 2.0]),
        ("FP32", range(2), [0.0, 1.0]),
        ("FP32", np.array([1, 2.5], dtype=object), [1.0, 2.5]),
        ("FP32", [float("inf"), 16_777_217], [float("inf"), 16_777_216.0]),
        ("FP64", np.float32([0.1]), [float(np.float32(0.1))]),
        ("INT64", [1.0, -2.0], [1, -2]),
        ("INT64", [2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
        ("UINT64", [2**64 - 1], [2**64 - 1]),
        ("UINT64", [2**64 - 1, 2**63 + 1, 0], [2**64 - 1, 2**63 + 1, 0]),
        ("INT8", np.array([127, -128]), [127, -128]),
        ("BOOL", [True, np.False_], [True, False]),
        ("BYTES", np.array(["a", "b"]), [b"a", b"b"]),
        ("BYTES", [np.str_("é"), np.bytes_(b"\0")], ["é".encode(), b"\0"]),
    ],
)
def test_values_are_converted_where_nothing_is_lost(datatype: str, value: Any, expected: list[Any]) -> None:
    tensor = to_tensor(spec(datatype), value)
    assert tensor.dtype == DTYPES[datatype]
    assert tensor.tolist() == expected


class Column:
    """A data frame's column, as NumPy sees it."""

    def __init__(self, *values: object) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self._values, dtype=dtype or object)


def test_a_column_of_a_data_frame_is_a_list_of_values() -> None:
    assert to_tensor(spec("FP32"), Column(1, 2.5)).tolist() == [1.0, 2.5]
    assert to_tensor(spec("BYTES"), Column("a")).tolist() == [b"a"]
    assert refusal("FP32", Column(1, None)) == "input 'x': row 1 has None, must be a number (FP32)."


@pytest.mark.parametrize(
    ("datatype", "value", "sentence"),
    [
        ("FP32", [1.0, None], "row 1 has None, must be a number (FP32)."),
        ("FP32", [1.0, "abc"], "row 1 has 'abc', must be a number (FP32)."),
        ("FP32", ["1.5"], "row 0 has '1.5', must be a number (FP32)."),
        ("FP32", [1.0, Decimal(2)], "row 1 has Decimal('2'), must be a number (FP32)."),
        ("FP32", [1 + 2j], "row 0 has (1+2j), must be a number (FP32)."),
        ("FP32", [True], "row 0 has True, must be a number (FP32)."),
        ("FP32", {"a": 1}, "has {'a': 1}, must be a number (FP32)."),
        ("FP32", [0.0, 1e39], "row 1 has 1e+39, must be -3.4028235e+38 to 3.4028235e+38 (FP32)."),
        ("FP16", [70_000], "row 0 has 70000, must be -65504 to 65504 (FP16)."),
        ("INT8", [1, 128], "row 1 has 128, must be -128 to 127 (INT8)."),
        ("UINT8", [-1], "row 0 has -1, must be 0 to 255 (UINT8)."),
        ("INT64", [2.0**63], "row 0 has 9.223372036854776e+18, must be -9223372036854775808 to 9223372036854775807"),
        ("INT64", [0, 2**64], "row 1 has 18446744073709551616, must be -9223372036854775808 to 9223372036854775807"),
        ("UINT64", [2**63, -1], "row 1 has -1, must be 0 to 18446744073709551615 (UINT64)."),
        ("INT64", [1, 2.5], "row 1 has 2.5, must be a whole number; round it first (INT64)."),
        ("INT64", [float("nan")], "row 0 has nan, must be a whole number; round it first (INT64)."),
        ("INT64", [float("inf")], "row 0 has inf, must be"),
        ("BOOL", [True, 1], "row 1 has 1, must be True or False (BOOL)."),
        ("BOOL", [0.0], "row 0 has 0.0, must be True or False (BOOL)."),
        ("BYTES", ["a", 7], "row 1 has 7, must be text or bytes (BYTES)."),
        ("BYTES", ["a", None], "row 1 has None, must be text or bytes (BYTES)."),
        ("BYTES", ["\ud800"], r"'\ud800' can't be encoded as UTF-8."),
        ("FP32", 1.5, "its shape is [], must be [rows], a list or an array with one value per row."),
        ("BYTES", "a", "its shape is [], must be [rows], a list or an array with one value per row."),
        ("FP32", [[1.0]], "its shape is [1, 1], must be [rows], a list or an array with one value per row."),
        ("FP32", [[1], [1, 2]], "its rows differ in shape; must be [rows], a list or an array with one value per row."),
        ("BF16", [1.0], "this client can't send BF16."),
    ],
)
def test_invalid_values_are_refused(datatype: str, value: Any, sentence: str) -> None:
    assert refusal(datatype, value).startswith(f"input 'x': {sentence}")


def test_a_matrix_names_its_shape_and_its_row() -> None:
    assert refusal("FP32", [[1, 2], [3, 4]], -1, 3) == (
        "input 'x': its shape is [2, 2], must be [rows, 3], a list or an array with one entry per row."
    )
    assert refusal("INT8", [[1, 2], [3, 400]], -1, 2) == "input 'x': row 1 has 400, must be -128 to 127 (INT8)."


def test_a_long_value_is_cut() -> None:
    assert len(refusal("FP32", ["x" * 10_000])) < 150


@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_an_empty_list_fits_any_datatype(datatype: str) -> None:
    tensor = to_tensor(spec(datatype), [])
    assert (tensor.shape, tensor.dtype) == ((0,), DTYPES[datatype])


def test_masked_values_are_refused_and_an_array_without_any_is_sent() -> None:
    masked = np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])
    assert refusal("FP32", masked) == "input 'x': row 1 is masked; fill the array first, with `filled()`."
    sent = to_tensor(TensorMetadata("x", "FP32", (-1,)), np.ma.array([1.0, 2.0]))
    assert sent.tolist() == [1.0, 2.0]
