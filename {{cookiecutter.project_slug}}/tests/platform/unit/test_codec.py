from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.domain.errors import InvalidRequest
from serving.domain.tensors import Datatype, Signature, Tensor, TensorSpec
from serving.online.grpc import codec
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.inference import Inference
from serving.online.open_inference import check_name, platform
from tests.platform.support.artifacts import rich, tiny
from tests.platform.support.requests import MODEL, good, good_typed
from tests.platform.support.services import DIGEST, fake_service
from tests.platform.support.wire import TYPED_FIELDS, raw

MAX_ROWS = 5
SHAPES = st.sampled_from([(-1,), (-1, 3), (-1, 2, 2)])


def tensors(spec: TensorSpec) -> st.SearchStrategy[Tensor]:
    """Return tensors that fit a declaration, NaN and infinities included."""

    def of_rows(rows: int) -> st.SearchStrategy[Tensor]:
        shape = (rows, *spec.shape[1:])
        if not spec.datatype.holds_bytes:
            return hnp.arrays(spec.dtype, shape)
        size = int(np.prod(shape))
        return st.lists(st.binary(max_size=20), min_size=size, max_size=size).map(lambda items: objects(items, shape))

    return st.integers(1, MAX_ROWS).flatmap(of_rows)


def objects(items: list[bytes], shape: tuple[int, ...]) -> Tensor:
    tensor: npt.NDArray[Any] = np.empty(len(items), object)
    tensor[:] = items
    return tensor.reshape(shape)


def signature(spec: TensorSpec) -> Signature:
    return Signature((spec,), (TensorSpec("y", spec.datatype, spec.shape),), MAX_ROWS)


def assert_same(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    # Compare bits: -0.0 differs from 0.0, and a NaN equals itself.
    assert raw(actual) == raw(expected)


@pytest.mark.parametrize("datatype", Datatype)
@settings(max_examples=25)
@given(shape=SHAPES, data=st.data())
def test_raw_contents_arrive_as_they_were_sent(datatype: Datatype, shape: tuple[int, ...], data: st.DataObject) -> None:
    spec = TensorSpec("x", datatype, shape)
    sent = data.draw(tensors(spec))
    request = pb.ModelInferRequest(raw_input_contents=[raw(sent)])
    request.inputs.add(name="x", datatype=datatype.wire, shape=sent.shape)
    decoded = codec.decode(request, signature(spec))
    assert decoded.raw
    assert_same(decoded.inputs["x"], sent)


@pytest.mark.parametrize("datatype", [datatype for datatype in Datatype if datatype.wire in TYPED_FIELDS])
@settings(max_examples=25)
@given(shape=SHAPES, data=st.data())
def test_typed_contents_arrive_as_they_were_sent(
    datatype: Datatype, shape: tuple[int, ...], data: st.DataObject
) -> None:
    spec = TensorSpec("x", datatype, shape)
    sent = data.draw(tensors(spec))
    request = pb.ModelInferRequest()
    message = request.inputs.add(name="x", datatype=datatype.wire, shape=sent.shape)
    getattr(message.contents, TYPED_FIELDS[datatype.wire]).extend(sent.ravel().tolist())
    decoded = codec.decode(request, signature(spec))
    assert not decoded.raw
    if datatype.is_float:
        np.testing.assert_array_equal(decoded.inputs["x"], sent)  # a NaN may become another NaN
    else:
        assert_same(decoded.inputs["x"], sent)


@pytest.mark.parametrize("travels_raw", [True, False])
@pytest.mark.parametrize("datatype", Datatype)
@settings(max_examples=20)
@given(data=st.data())
def test_an_answer_is_encoded_like_its_request(datatype: Datatype, travels_raw: bool, data: st.DataObject) -> None:
    model = rich([datatype])
    name = f"{datatype.value.lower()}_out"
    answer = data.draw(tensors(TensorSpec(name, datatype)))
    inference = Inference({name: answer}, fake_service(model).model, {})
    response = codec.encode(inference, raw=travels_raw, request_id="7")
    (output,) = response.outputs
    assert (output.name, output.datatype, tuple(output.shape)) == (name, datatype.wire, answer.shape)
    if travels_raw or datatype is Datatype.FP16:  # which has no typed field
        assert list(response.raw_output_contents) == [raw(answer)]
        assert not output.HasField("contents")
    else:
        assert not response.raw_output_contents
        field = TYPED_FIELDS[datatype.wire]
        np.testing.assert_array_equal(list(getattr(output.contents, field)), answer.ravel().tolist())


def test_half_floats_must_be_sent_raw() -> None:
    spec = TensorSpec("x", Datatype.FP16)
    request = pb.ModelInferRequest()
    request.inputs.add(name="x", datatype="FP16", shape=[1]).contents.fp32_contents.append(1.0)
    with pytest.raises(InvalidRequest, match="input 'x': FP16 must be sent in raw_input_contents"):
        codec.decode(request, signature(spec))


def test_inputs_may_come_in_any_order() -> None:
    request = good()
    inputs, contents = list(request.inputs)[::-1], list(request.raw_input_contents)[::-1]
    del request.inputs[:], request.raw_input_contents[:]
    request.inputs.extend(inputs)
    request.raw_input_contents.extend(contents)
    served = fake_service(MODEL).model.signature
    turned, straight = codec.decode(request, served).inputs, codec.decode(good(), served).inputs
    assert sorted(turned) == sorted(straight)
    for name, tensor in straight.items():
        assert_same(turned[name], tensor)


def test_requested_outputs_are_decoded() -> None:
    request = good()
    request.outputs.add(name="bool_out")
    request.outputs.add(name="matrix_out")
    assert codec.decode(request, fake_service(MODEL).model.signature).outputs == ("bool_out", "matrix_out")


def test_an_answer_names_model_version_digest_and_request() -> None:
    answer = {"total": np.zeros(1, np.float32)}
    response = codec.encode(Inference(answer, fake_service(tiny()).model, {}), raw=True, request_id="my-id")
    assert (response.model_name, response.model_version, response.id) == ("tiny", "1", "my-id")
    assert response.parameters["artifact_digest"].string_param == DIGEST
    assert "defaulted_features" not in response.parameters


def test_an_answer_says_which_rows_of_which_features_are_defaults() -> None:
    answer = {"total": np.zeros(3, np.float32)}
    inference = Inference(answer, fake_service(tiny()).model, {"base": [0, 2], "other": [1]})
    response = codec.encode(inference, raw=True, request_id="")
    flags = json.loads(response.parameters["defaulted_features"].string_param)
    assert flags == {"base": [0, 2], "other": [1]}


def test_metadata_are_enough_to_build_a_request() -> None:
    model = tiny(static=True)
    response = codec.metadata(fake_service(model).model)
    assert (response.name, list(response.versions), response.platform) == ("tiny", ["1"], "onnxruntime_onnx")
    assert [(t.name, t.datatype, list(t.shape)) for t in response.inputs] == [
        ("key", "BYTES", [-1]),
        ("value", "FP32", [-1]),
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in response.outputs] == [("total", "FP32", [-1])]
    printed = dict(response.properties)
    assert printed["reference"] == f"local:tiny/1#{DIGEST}"
    assert printed["artifact_digest"] == DIGEST
    assert printed["description"] == model.lineage.description
    assert (printed["value.unit"], printed["value.description"]) == ("1", "What is added")
    assert printed["total.description"] == "The sum"
    assert all(printed.values())


@pytest.mark.parametrize("request_", [good(), good_typed()], ids=["raw", "typed"])
def test_every_request_that_the_signature_allows_fits_into_the_largest_message(request_: pb.ModelInferRequest) -> None:
    served = Signature(fake_service(MODEL).model.signature.inputs, MODEL.manifest.outputs, max_rows=2)
    room = codec.max_request_bytes(served)
    for message, spec in zip(request_.inputs, served.inputs, strict=True):
        fill(message, request_, spec)
    assert request_.ByteSize() <= room
    assert codec.decode(request_, served)


def fill(message: pb.ModelInferRequest.InferInputTensor, request: pb.ModelInferRequest, spec: TensorSpec) -> None:
    """Fill an input with the largest elements."""
    count = 2 * spec.row_elements
    largest: Any = b"x" * spec.max_bytes if spec.datatype.holds_bytes else 1
    if spec.datatype.value.startswith("INT"):
        largest = -1
    elif spec.datatype.value.startswith("UINT"):
        largest = int(np.iinfo(spec.dtype).max)
    if request.raw_input_contents:
        tensor = np.full(count, largest, spec.dtype)
        request.raw_input_contents[list(request.inputs).index(message)] = raw(tensor)
    else:
        field = getattr(message.contents, TYPED_FIELDS[spec.datatype.wire])
        del field[:]
        field.extend([largest] * count)


def test_the_largest_message_grows_with_the_signature_and_the_batch() -> None:
    small, large = (TensorSpec("x", Datatype.FP32, shape) for shape in ((-1,), (-1, 1000)))
    sizes = [
        codec.max_request_bytes(Signature((spec,), (), rows))
        for spec, rows in ((small, 1), (small, 1000), (large, 1000))
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < 100_000 < sizes[2] < 8_000_000


def test_the_largest_message_never_exceeds_the_limit_of_grpc() -> None:
    assert codec.max_request_bytes(Signature((TensorSpec("x", Datatype.FP64, (-1, 1 << 20)),), (), 1 << 20)) < 1 << 31


@pytest.mark.parametrize("name", ["a", "A-b_c.d", "9", "x" * 128])
def test_plain_names_of_models_and_versions_are_accepted(name: str) -> None:
    check_name(name, name)
    check_name(name, "")


def counted(**changes: Any) -> pb.ModelInferRequest:
    """Return the good request with so many parameters in each place that can have some."""
    request = good()
    parameters = [request.parameters, request.inputs[0].parameters, request.outputs.add(name="bool_out").parameters]
    for place, (name, count) in zip(parameters, changes.items(), strict=True):
        for number in range(count):
            place[f"{name}{number}"].int64_param = number
    return request


def test_the_limits_themselves_are_allowed() -> None:
    served = fake_service(MODEL).model.signature
    request = counted(request=12, inputs=10, outputs=10)
    request.id = "x" * 256
    for output in served.outputs[1:]:
        request.outputs.add(name=output.name)
    assert len(codec.decode(request, served).outputs) == len(served.outputs)


@pytest.mark.parametrize("place", ["request", "inputs", "outputs"])
def test_parameters_are_counted_wherever_they_are(place: str) -> None:
    counts = {"request": 10, "inputs": 10, "outputs": 10} | {place: 13}
    with pytest.raises(InvalidRequest) as refusal:
        codec.decode(counted(**counts), fake_service(MODEL).model.signature)
    assert str(refusal.value) == "parameters: 33 are sent, at most 32 are allowed."


def test_a_refusal_of_raw_contents_says_what_must_be_sent() -> None:
    request = good()
    del request.raw_input_contents[-1]
    count = len(request.inputs)
    with pytest.raises(InvalidRequest) as refusal:
        codec.decode(request, fake_service(MODEL).model.signature)
    assert str(refusal.value) == (
        f"raw_input_contents: has {count - 1} entries for {count} inputs, must have one for each."
    )


def test_an_empty_element_may_be_the_last() -> None:
    spec = TensorSpec("x", Datatype.BYTES)
    request = pb.ModelInferRequest(raw_input_contents=[raw(objects([b"a", b""], (2,)))])
    request.inputs.add(name="x", datatype="BYTES", shape=[2])
    assert codec.decode(request, signature(spec)).inputs["x"].tolist() == [b"a", b""]


def test_a_prefix_at_the_end_announces_bytes_that_are_not_there() -> None:
    request = pb.ModelInferRequest(raw_input_contents=[b"\x05\0\0\0"])
    request.inputs.add(name="x", datatype="BYTES", shape=[1])
    with pytest.raises(InvalidRequest, match="input 'x': element 0 ends beyond the raw contents"):
        codec.decode(request, signature(TensorSpec("x", Datatype.BYTES)))


def test_flags_are_short_json() -> None:
    answer = {"total": np.zeros(3, np.float32)}
    inference = Inference(answer, fake_service(tiny()).model, {"base": [0, 2]}, {"other": [1]})
    response = codec.encode(inference, raw=True, request_id="")
    assert response.parameters["defaulted_features"].string_param == '{"base":[0,2]}'
    assert response.parameters["last_known_features"].string_param == '{"other":[1]}'


def test_metadata_have_the_lineage_of_the_model() -> None:
    model = tiny()
    lineage = replace(model.lineage, git_commit="abc", data_digest="sha256=12")
    printed = dict(codec.metadata(fake_service(replace(model, lineage=lineage)).model).properties)
    assert (printed["git_commit"], printed["data_digest"], printed["max_rows"]) == ("abc", "sha256=12", "1024")


def test_a_format_has_its_own_name_unless_triton_has_another() -> None:
    assert [platform(name) for name in ("onnx", "joblib")] == ["onnxruntime_onnx", "joblib"]
