from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving_client._proto import prediction_service_pb2 as pb
from serving_client.errors import InvalidRequest, ServerFault
from serving_client.tensorflow_tensors import from_proto, to_proto

OPEN = pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=-1)])
NUMBERS = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 1, 3), (2, 1, 3, 2)])
def test_numbers_of_each_type_and_shape_come_back_as_they_were(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    back = from_proto("x", to_proto("x", array))
    assert back.dtype == np.dtype(dtype)
    assert back.shape == shape
    np.testing.assert_array_equal(back, array)


def test_the_other_byte_order_is_sent_in_little_endian() -> None:
    assert to_proto("x", np.array([1], ">i4")).tensor_content == b"\x01\0\0\0"


def test_text_is_sent_in_utf_8_and_comes_back_as_bytes() -> None:
    for values in (["ü", "a"], np.array(["ü", "a"], object), np.array(["ü", "a"]), [b"\xc3\xbc", b"a"]):
        assert from_proto("x", to_proto("x", values)).tolist() == [b"\xc3\xbc", b"a"]


def test_bytes_keep_their_last_nul_and_text_may_stand_beside_bytes() -> None:
    assert from_proto("x", to_proto("x", [b"ab\0", b""])).tolist() == [b"ab\0", b""]
    assert from_proto("x", to_proto("x", ["a", b"\xff"])).tolist() == [b"a", b"\xff"]


@pytest.mark.parametrize("values", [[1.5, "a", True], [["a"], ["b", "c"]], ["\ud800"]])
def test_lists_that_are_no_text_are_refused_by_name(values: Any) -> None:
    with pytest.raises(InvalidRequest, match="input 'x' holds "):
        to_proto("x", values)


def test_bfloat16_is_rounded_to_the_nearest_and_read_as_fp32() -> None:
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -0.0, np.inf, np.nan], np.float32)
    back = from_proto("x", to_proto("x", values, bfloat16=True))
    np.testing.assert_array_equal(back, np.array([1.0, 1.0, 1 + 2**-6, -0.0, np.inf, np.nan], np.float32))


@pytest.mark.parametrize(
    ("message", "values"),
    [
        (pb.TensorProto(dtype=pb.DT_FLOAT, float_val=[1.5, 2]), [1.5, 2, 2]),
        (pb.TensorProto(dtype=pb.DT_INT8, int_val=[-1]), [-1, -1, -1]),
        (pb.TensorProto(dtype=pb.DT_HALF, half_val=[0x3C00]), [1, 1, 1]),
        (pb.TensorProto(dtype=pb.DT_BFLOAT16, half_val=[0x3F80]), [1, 1, 1]),
        (pb.TensorProto(dtype=pb.DT_STRING, string_val=[b"a"]), [b"a", b"a", b"a"]),
        (pb.TensorProto(dtype=pb.DT_BOOL), [False, False, False]),
    ],
)
def test_the_last_element_of_a_typed_field_fills_the_shape(message: pb.TensorProto, values: list[Any]) -> None:
    message.tensor_shape.dim.add(size=3)
    assert from_proto("x", message).tolist() == values


@pytest.mark.parametrize(
    "message",
    [
        pb.TensorProto(dtype=pb.DT_FLOAT, tensor_content=b"\0" * 9),
        pb.TensorProto(dtype=pb.DT_FLOAT, float_val=[1, 2, 3, 4]),
        pb.TensorProto(dtype=pb.DT_STRING, tensor_content=b"abc"),
        pb.TensorProto(dtype=pb.DT_INVALID),
        pb.TensorProto(dtype=8),  # type: ignore[arg-type]  # complex numbers, which have no name here
        pb.TensorProto(dtype=pb.DT_FLOAT, tensor_shape=OPEN, tensor_content=b"\0" * 12),
    ],
)
def test_elements_that_do_not_fill_the_shape_are_never_an_array(message: pb.TensorProto) -> None:
    message.tensor_shape.dim.add(size=3)
    with pytest.raises(ServerFault, match="output 'x' has"):
        from_proto("x", message)


def test_an_element_beyond_its_type_is_never_an_array() -> None:
    message = pb.TensorProto(dtype=pb.DT_INT8, int_val=[300])
    message.tensor_shape.dim.add(size=1)
    with pytest.raises(ServerFault, match="output 'x' holds an element that is no INT8"):
        from_proto("x", message)


@pytest.mark.parametrize(
    ("values", "reason"),
    [(np.array([1j]), "holds complex128"), (np.array([None], object), "holds None"), (["2026", 1.0j], "holds")],
)
def test_what_tensorflow_has_not_is_refused_by_name(values: Any, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=f"input 'x' {reason}"):
        to_proto("x", np.asarray(values, object) if isinstance(values, list) else values)
