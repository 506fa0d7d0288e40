"""TensorFlow Serving's answers as arrays: each way that elements travel, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.adapters.runtime.tensorflow_serving.proto import prediction_service_pb2 as pb
from serving.adapters.runtime.tensorflow_serving.tensors import from_proto, to_proto
from serving.domain.errors import ModelFailed
from serving.domain.tensors import Datatype, TensorSpec


def shaped(message: pb.TensorProto, *sizes: int) -> pb.TensorProto:
    message.tensor_shape.dim.extend(pb.TensorShapeProto.Dim(size=size) for size in sizes)
    return message


def spec(datatype: Datatype) -> TensorSpec:
    return TensorSpec("x", datatype, (-1,))


@pytest.mark.parametrize("datatype", Datatype)
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 3), (2, 1, 3), (2, 1, 3, 2)])
def test_each_type_and_shape_comes_back_as_it_was(datatype: Datatype, shape: tuple[int, ...]) -> None:
    numbers = np.random.default_rng(1).integers(0, 2, shape)
    array = np.array(numbers.astype("S1"), object) if datatype.holds_bytes else numbers.astype(datatype.dtype)
    back = from_proto(to_proto(array, spec(datatype)), spec(datatype))
    assert back.dtype == datatype.dtype
    assert back.shape == shape
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    ("message", "datatype", "values"),
    [
        (pb.TensorProto(dtype=pb.DT_FLOAT, float_val=[1.5, 2, 3]), Datatype.FP32, [1.5, 2, 3]),
        (pb.TensorProto(dtype=pb.DT_FLOAT, float_val=[1.5, 2]), Datatype.FP32, [1.5, 2, 2]),
        (pb.TensorProto(dtype=pb.DT_INT8, int_val=[-1]), Datatype.INT8, [-1, -1, -1]),
        (pb.TensorProto(dtype=pb.DT_HALF, half_val=[0x3C00]), Datatype.FP16, [1, 1, 1]),
        (pb.TensorProto(dtype=pb.DT_STRING, string_val=[b"a"]), Datatype.BYTES, [b"a", b"a", b"a"]),
        (pb.TensorProto(dtype=pb.DT_STRING), Datatype.BYTES, [b"", b"", b""]),
        (pb.TensorProto(dtype=pb.DT_BOOL), Datatype.BOOL, [False, False, False]),
    ],
)
def test_the_last_element_of_a_typed_field_fills_the_shape(
    message: pb.TensorProto, datatype: Datatype, values: list[Any]
) -> None:
    assert from_proto(shaped(message, 3), spec(datatype)).tolist() == values


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (shaped(pb.TensorProto(dtype=pb.DT_INT64, int64_val=[1]), 1), "is DT_INT64, must be DT_INT8"),
        (shaped(pb.TensorProto(dtype=8), 1), "is the type 8, must be DT_INT8"),  # type: ignore[arg-type]
        (shaped(pb.TensorProto(dtype=pb.DT_INT8, tensor_content=b"123"), 2), "do not fill its shape"),
        (shaped(pb.TensorProto(dtype=pb.DT_INT8, int_val=[1, 2, 3]), 2), "do not fill its shape"),
        (shaped(pb.TensorProto(dtype=pb.DT_INT8, int_val=[300]), 1), "do not fill its shape"),
        (shaped(pb.TensorProto(dtype=pb.DT_INT8, tensor_content=b"12"), -1), "leaves a size open"),
    ],
)
def test_an_answer_of_another_form_is_never_an_array(message: pb.TensorProto, reason: str) -> None:
    with pytest.raises(ModelFailed, match=f"output x.* {reason}"):
        from_proto(message, spec(Datatype.INT8))
