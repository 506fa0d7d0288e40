from __future__ import annotations

import decimal
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from serving.domain.errors import InvalidRequest
from serving.domain.tensors import ROWS, Datatype, TensorSpec
from serving.offline.score.column_types import fits
from serving.offline.score.conversion import refused_rows, tensor_of

NAN = float("nan")


def spec(datatype: Datatype, *shape: int, **options: Any) -> TensorSpec:
    return TensorSpec("x", datatype, (ROWS, *shape), **options)


@pytest.mark.parametrize(
    ("datatype", "column", "values"),
    [
        (Datatype.FP32, pa.array([1.1, 2.5], pa.float64()), [1.1, 2.5]),
        (Datatype.FP32, pa.array([1, None], pa.int64()), [1.0, NAN]),
        (Datatype.FP32, pa.array([True, False]), [1.0, 0.0]),
        (Datatype.FP64, pa.array([decimal.Decimal("1.50"), None]), [1.5, NAN]),
        (Datatype.FP32, pa.array([None, None], pa.null()), [NAN, NAN]),
        (Datatype.FP32, pa.array([b"1e-3", b" 2 "]), [0.001, 2.0]),
        (Datatype.FP32, pa.array(["1.5", ""]), [1.5, NAN]),
        (Datatype.FP32, pa.array(["1.5", "1.5"]).dictionary_encode(), [1.5, 1.5]),
        (Datatype.INT8, pa.array([-128, 127], pa.int64()), [-128, 127]),
        (Datatype.INT32, pa.array([3.0, -4.0]), [3, -4]),
        (Datatype.INT64, pa.array([b"1e3", b"-7"]), [1000, -7]),
        (Datatype.UINT64, pa.array([2**64 - 1, 0], pa.uint64()), [2**64 - 1, 0]),
        (Datatype.UINT64, pa.array(["18446744073709551615", "0"]), [2**64 - 1, 0]),
        (Datatype.BOOL, pa.array(["TRUE", "0"]), [True, False]),
        (Datatype.BOOL, pa.array([True, False]), [True, False]),
        (Datatype.TEXT, pa.array(["ä", ""]), ["ä".encode(), b""]),
        (Datatype.BYTES, pa.array([b"\xff", b"a"], pa.large_binary()), [b"\xff", b"a"]),
        (Datatype.BYTES, pa.array([17, 4], pa.int32()), [b"17", b"4"]),
    ],
)
def test_a_column_that_fits_becomes_a_tensor_of_the_declared_type(
    datatype: Datatype, column: pa.Array, values: Sequence[Any]
) -> None:
    tensor, faults = tensor_of(spec(datatype), column)
    assert (tensor.dtype, faults) == (datatype.dtype, {})
    np.testing.assert_array_equal(tensor, np.array(values, datatype.dtype))


@pytest.mark.parametrize(
    ("datatype", "column", "reason"),
    [
        (Datatype.INT8, pa.array([1, 128], pa.int64()), "'128' is no INT8"),
        (Datatype.UINT8, pa.array([1, -1], pa.int64()), "'-1' is no UINT8"),
        (Datatype.UINT64, pa.array([1, -1], pa.int64()), "'-1' is no UINT64"),
        (Datatype.INT64, pa.array([1, 2**64 - 1], pa.uint64()), f"'{2**64 - 1}' is no INT64"),
        (Datatype.INT64, pa.array([1.0, 2.0**63]), "'9.223372036854776e+18' is no INT64"),
        (Datatype.INT32, pa.array([1.0, 1.5]), "'1.5' is no INT32"),
        (Datatype.INT32, pa.array([1, None]), "holds no value"),
        (Datatype.BOOL, pa.array([True, None]), "holds no value"),
        (Datatype.INT32, pa.array(["1", "0x10"]), "'0x10' is no INT32"),
        (Datatype.INT32, pa.array(["1", "1_0"]), "'1_0' is no INT32"),
        (Datatype.FP32, pa.array(["1", "1_0"]), "'1_0' is no FP32"),
        (Datatype.FP32, pa.array(["1", "one"]), "'one' is no FP32"),
        (Datatype.BOOL, pa.array(["1", "maybe"]), "'maybe' is no BOOL"),
        (Datatype.TEXT, pa.array(["a", None]), "holds no value"),
        (Datatype.TEXT, pa.array([b"a", b"\xff"]), "an element is not UTF-8, and this model takes text"),
    ],
)
def test_a_value_that_does_not_fit_is_the_fault_of_its_row_alone(
    datatype: Datatype, column: pa.Array, reason: str
) -> None:
    _, faults = tensor_of(spec(datatype), column)
    assert faults == {1: reason}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1.0, 2.0], [3.0, 4.0]]),
        pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)),
        pa.array([["1", "2"], ["3", "4"]], pa.large_list(pa.string())),
        pa.array([[[1.0], [2.0]], [[3.0], [4.0]]]),
    ],
)
def test_an_array_is_a_list_of_any_kind(column: pa.Array) -> None:
    tensor, faults = tensor_of(spec(Datatype.FP32, 2), column)
    assert (tensor.tolist(), faults) == ([[1.0, 2.0], [3.0, 4.0]], {})


@pytest.mark.parametrize("row", [[1.0], [1.0, 2.0, 3.0], None, []])
def test_an_array_of_another_size_is_the_fault_of_its_row(row: list[float] | None) -> None:
    tensor, faults = tensor_of(spec(Datatype.FP32, 2), pa.array([[1.0, 2.0], row, [5.0, 6.0]], pa.list_(pa.float32())))
    assert faults == {1: "is no array of 2 values"}
    assert tensor[[0, 2]].tolist() == [[1.0, 2.0], [5.0, 6.0]]


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        (spec(Datatype.FP32), [1.0, NAN]),
        (spec(Datatype.FP32), [1.0, np.inf]),
        (spec(Datatype.FP64, allow_nan=True), [NAN, -np.inf]),
        (spec(Datatype.FP32, 2), [[1.0, 2.0], [1.0, NAN]]),
        (spec(Datatype.BYTES, max_bytes=2), [b"ab", b"abc"]),
    ],
)
def test_rows_are_refused_in_the_words_of_the_online_check(declared: TensorSpec, values: list[Any]) -> None:
    tensor = np.array(values, declared.dtype)
    refused = refused_rows(declared, tensor)
    assert list(refused) == [1]
    with pytest.raises(InvalidRequest) as online:
        declared.check_values(tensor[1:])
    assert f"input 'x': {refused[1]}." == str(online.value).replace("row 0 ", "")


def test_rows_that_are_allowed_are_not_refused() -> None:
    assert refused_rows(spec(Datatype.FP32, allow_nan=True), np.array([NAN], np.float32)) == {}
    assert refused_rows(spec(Datatype.INT8), np.array([1], np.int8)) == {}


@pytest.mark.parametrize(
    ("datatype", "kind", "fitting"),
    [
        (Datatype.FP32, pa.float64(), True),
        (Datatype.FP32, pa.list_(pa.int8()), True),
        (Datatype.FP32, pa.dictionary(pa.int8(), pa.string()), True),
        (Datatype.FP32, pa.timestamp("s"), False),
        (Datatype.INT8, pa.struct([("a", pa.int8())]), False),
        (Datatype.BOOL, pa.int8(), False),
        (Datatype.TEXT, pa.string(), True),
        (Datatype.TEXT, pa.int64(), False),
    ],
)
def test_a_column_of_a_type_that_can_never_fit_is_known_before_its_rows(
    datatype: Datatype, kind: pa.DataType, fitting: bool
) -> None:
    assert fits(spec(datatype), kind) is fitting


def test_only_a_key_may_be_a_number() -> None:
    assert fits(spec(Datatype.BYTES), pa.int64(), key=True)
    assert not fits(spec(Datatype.BYTES), pa.date32(), key=True)
