from __future__ import annotations

import numpy as np
import pytest

from serving.domain.errors import InvalidRequest
from serving.domain.tensors import Datatype, Signature, TensorSpec

ROW = TensorSpec("x", Datatype.FP32)
MATRIX = TensorSpec("m", Datatype.FP64, (-1, 2, 3))
NAMES = TensorSpec("names", Datatype.BYTES, max_bytes=4)
SIGNATURE = Signature((ROW, MATRIX), (TensorSpec("y", Datatype.FP32), TensorSpec("z", Datatype.INT32)), max_rows=4)


def floats(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def inputs(rows: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.floating]]]:
    return {"x": np.ones(rows, np.float32), "m": np.ones((rows, 2, 3))}


@pytest.mark.parametrize(
    ("datatype", "size", "kind"),
    [
        *((Datatype(f"UINT{bits}"), bits // 8, "u") for bits in (8, 16, 32, 64)),
        *((Datatype(f"INT{bits}"), bits // 8, "i") for bits in (8, 16, 32, 64)),
        *((Datatype(f"FP{bits}"), bits // 8, "f") for bits in (16, 32, 64)),
        (Datatype.BOOL, 1, "b"),
    ],
)
def test_an_element_of_a_datatype_has_the_protocols_size(datatype: Datatype, size: int, kind: str) -> None:
    assert (datatype.dtype.itemsize, datatype.dtype.kind) == (size, kind)
    assert datatype.is_float == (kind == "f")


def test_bytes_are_objects() -> None:
    assert Datatype.BYTES.dtype == np.dtype(object)


@pytest.mark.parametrize("shape", [(), (3,), (1, -1), (-1, -1), (-1, 0)])
def test_a_shape_is_rows_and_then_fixed(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="tensor x: shape"):
        TensorSpec("x", Datatype.FP32, shape)


def test_the_elements_of_a_row_follow_from_the_shape() -> None:
    assert (ROW.row_elements, MATRIX.row_elements) == (1, 6)


def test_inputs_that_fit_are_accepted_and_their_rows_counted() -> None:
    assert [SIGNATURE.check_inputs(inputs(rows)) for rows in (1, 4)] == [1, 4]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x": None}, "input 'x' is missing; the inputs are x, m."),
        ({"other": floats(1)}, "input 'other' is unknown; the inputs are x, m."),
        ({"x": floats(1)}, "input 'm': has 2 rows, the inputs before it have 1."),
        ({"x": floats(1, np.nan)}, "input 'x': row 1 holds NaN or an infinity, which this model does not accept."),
        ({"x": floats(-np.inf, 1)}, "input 'x': row 0 holds NaN or an infinity, which this model does not accept."),
    ],
)
def test_invalid_inputs_are_refused_in_one_sentence(changed: dict[str, object], words: str) -> None:
    tensors = {name: tensor for name, tensor in (inputs(2) | changed).items() if tensor is not None}
    with pytest.raises(InvalidRequest) as refusal:
        SIGNATURE.check_inputs(tensors)  # type: ignore[arg-type]
    assert str(refusal.value) == words


@pytest.mark.parametrize(
    ("datatype", "shape", "words"),
    [
        ("FP32", (2, 2, 3), "datatype is 'FP32', must be FP64"),
        ("FP64", (0, 2, 3), "has 0 rows, must have 1 to 4; split a larger batch"),
        ("FP64", (5, 2, 3), "has 5 rows, must have 1 to 4; split a larger batch"),
        ("FP64", (2, 3, 2), "shape is [2, 3, 2], must be [rows, 2, 3]"),
        ("FP64", (2, 6), "has 2 dimensions, must have 3: [rows, 2, 3]"),
    ],
)
def test_a_datatype_or_shape_that_was_not_declared_is_refused(
    datatype: str, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        MATRIX.check_declared(datatype, shape, SIGNATURE.max_rows)
    assert str(refusal.value) == f"input 'm': {words}."


def test_a_bad_row_of_a_matrix_is_named_by_its_number() -> None:
    tensor = np.ones((3, 2, 3))
    tensor[2, 1, 1] = np.nan
    with pytest.raises(InvalidRequest, match="input 'm': row 2 holds NaN"):
        MATRIX.check_values(tensor)


def test_a_model_may_accept_nan_and_then_still_no_infinity() -> None:
    spec = TensorSpec("x", Datatype.FP32, allow_nan=True)
    spec.check_values(floats(np.nan, 1.0))
    with pytest.raises(InvalidRequest, match="input 'x': row 1 holds an infinity"):
        spec.check_values(floats(np.nan, -np.inf))


def test_the_length_of_byte_elements_is_bounded() -> None:
    NAMES.check_values(np.array([b"four", b""], object))
    with pytest.raises(InvalidRequest, match="input 'names': an element has 5 bytes, at most 4 are allowed"):
        NAMES.check_values(np.array([b"four", b"five!"], object))


def test_an_answer_that_matches_the_signature_is_accepted() -> None:
    assert SIGNATURE.check_outputs({"y": floats(1, 2), "z": np.array([1, 2], np.int32)}, 2) is None


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({}, "output y is missing"),
        ({"y": floats(1)}, r"output y is float32\[1\] for 2 rows"),
        ({"y": np.ones(2)}, r"output y is float64\[2\]"),
        ({"y": np.ones((2, 1), np.float32)}, r"output y is float32\[2, 1\]"),
        ({"y": floats(1, np.nan)}, "output y holds NaN or an infinity"),
        ({"y": floats(1, 2)}, "output z is missing"),
    ],
)
def test_an_answer_outside_the_signature_is_reported(answer: dict[str, object], fault: str) -> None:
    message = SIGNATURE.check_outputs(answer, 2)  # type: ignore[arg-type]
    assert message is not None
    with pytest.raises(AssertionError, match=fault):
        raise AssertionError(message)


def test_all_outputs_are_returned_if_none_is_requested() -> None:
    assert SIGNATURE.choose_outputs([]) == SIGNATURE.outputs


def test_outputs_come_in_the_requested_order() -> None:
    assert [spec.name for spec in SIGNATURE.choose_outputs(["z", "y"])] == ["z", "y"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [(["x"], "output 'x' is unknown; the outputs are y, z."), (["y", "y"], "outputs: the same output is asked")],
)
def test_unknown_or_repeated_outputs_are_refused(wanted: list[str], words: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        SIGNATURE.choose_outputs(wanted)
    assert str(refusal.value).startswith(words)
