"""Encoding requests, decoding answers completely or not at all, and sharing the deadline."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from serving.offline import project
from serving_client import InvalidRequest, ModelMetadata, ServerFault, TensorMetadata
from serving_client._proto import open_inference_pb2 as pb
from serving_client.deadline import Deadline
from serving_client.protocol import InferRequest, checked_request_id, default_model

NUMBERS = TensorMetadata("numbers", "FP32", (-1,))
WORDS = TensorMetadata("words", "BYTES", (-1,))
METADATA = ModelMetadata("echo", ("1",), "fake", (NUMBERS, WORDS), (NUMBERS, WORDS))
GOOD: dict[str, Any] = {"words": ["a", "bc"], "numbers": [1, 2]}


def question(inputs: Any = GOOD, outputs: Any = (), version: str = "") -> InferRequest:
    return InferRequest(inputs, outputs, version, "id-1")


def refusal(asked: InferRequest) -> str:
    with pytest.raises(InvalidRequest) as caught:
        asked.request(METADATA)
    return str(caught.value)


def test_a_request_has_the_inputs_in_the_models_order_and_raw() -> None:
    request = question(outputs=["numbers"], version="7").request(METADATA)
    assert (request.model_name, request.model_version, request.id) == ("echo", "7", "id-1")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in request.inputs] == [
        ("numbers", "FP32", [2]),
        ("words", "BYTES", [2]),
    ]
    assert list(request.raw_input_contents) == [np.float32([1, 2]).tobytes(), b"\1\0\0\0a\2\0\0\0bc"]
    assert not any(tensor.HasField("contents") for tensor in request.inputs)
    assert [output.name for output in request.outputs] == ["numbers"]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (question({**GOOD, "age": [1]}), "input 'age' is unknown; the inputs are numbers, words."),
        (question({"words": ["a"]}), "input 'numbers' is missing; the inputs are numbers, words."),
        (question({}), "input 'numbers' is missing; the inputs are numbers, words."),
        (question(outputs=["sum"]), "output 'sum' is unknown; the outputs are numbers, words."),
        (question(outputs=["words", "words"]), "outputs: the same output is asked for twice."),
        (question({"words": ["a"], "numbers": [1, 2]}), "input 'words': has 1 rows, the inputs before it have 2."),
        (question(outputs="numbers"), "output 'n' is unknown; the outputs are numbers, words."),
    ],
    ids=[
        "unknown input",
        "missing input",
        "no input",
        "unknown output",
        "one output twice",
        "rows",
        "one word for a list",
    ],
)
def test_a_request_that_does_not_fit_is_refused(asked: InferRequest, sentence: str) -> None:
    assert refusal(asked) == sentence


def answer(**fields: Any) -> pb.ModelInferResponse:
    response = pb.ModelInferResponse(model_name="echo", model_version="1")
    response.outputs.add(**{"name": "y", "datatype": "FP32", "shape": [2], **fields})
    return response


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-1, 2]),
        ("UINT16", "uint_contents", [1, 2]),
        ("INT64", "int64_contents", [-1, 2**62]),
        ("UINT64", "uint64_contents", [1, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, 2.0]),
        ("FP64", "fp64_contents", [0.1, 2.0]),
        ("BYTES", "bytes_contents", [b"", b"\xff"]),
    ],
)
def test_typed_answers_are_read(datatype: str, field: str, values: list[Any]) -> None:
    response = answer(datatype=datatype, contents=pb.InferTensorContents(**{field: values}))
    assert question().prediction(response)["y"].tolist() == values


@pytest.mark.parametrize(
    ("fields", "raw"),
    [
        ({}, np.float32([1]).tobytes()),
        ({}, b"\0\0\0"),
        ({"shape": [-1]}, np.float32([1, 2]).tobytes()),
        ({"datatype": "FLOAT"}, np.float32([1, 2]).tobytes()),
        ({"datatype": "BYTES"}, b"\0\0\0\0\x09\0\0\0short"),
        ({"datatype": "BYTES"}, b"\0\0\0\0\x09\0"),
        ({"datatype": "BYTES"}, b"\0\0\0\0"),
    ],
    ids=["too short", "no multiple", "shape -1", "datatype", "element cut", "length cut", "too few elements"],
)
def test_an_answer_that_breaks_the_protocol_is_a_server_fault(fields: dict[str, Any], raw: bytes) -> None:
    response = answer(**fields)
    response.raw_output_contents.append(raw)
    with pytest.raises(ServerFault, match="the answer can't be read") as caught:
        question().prediction(response)
    assert caught.value.request_id == "id-1"


@pytest.mark.parametrize("flags", ["[]", "{", '{"age": 1}', '{"age": ["a"]}', "null"])
def test_flags_that_break_the_protocol_are_a_server_fault(flags: str) -> None:
    response = pb.ModelInferResponse()
    response.parameters["defaulted_features"].string_param = flags
    with pytest.raises(ServerFault, match="the answer can't be read"):
        question().prediction(response)


def test_a_prediction_is_a_mapping_and_can_be_written_as_json() -> None:
    response = answer(datatype="BYTES", contents=pb.InferTensorContents(bytes_contents=[b"a", b"\xff"]))
    response.parameters["artifact_digest"].string_param = "sha256=0"
    response.parameters["defaulted_features"].string_param = '{"age":[1]}'
    response.parameters["last_known_features"].string_param = '{"weight":[0]}'
    prediction = question().prediction(response)
    assert (list(prediction), len(prediction), "y" in prediction) == (["y"], 1, True)
    assert json.loads(json.dumps(prediction.as_dict())) == {
        "model": "echo",
        "model_version": "1",
        "artifact_digest": "sha256=0",
        "request_id": "id-1",
        "defaulted": {"age": [1]},
        "last_known": {"weight": [0]},
        "outputs": {"y": ["a", "\\xff"]},
    }


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf"), 1e9, None, "1"])
def test_an_invalid_timeout_is_refused(timeout: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Deadline(timeout)
    assert str(caught.value) == (f"timeout: {timeout!r} is not valid; give seconds, more than 0 and at most 86400.")


def test_a_deadline_counts_down() -> None:
    deadline = Deadline(np.float32(60))
    first = deadline.left()
    assert 60 >= first >= deadline.left() > 0
    assert not deadline.passed()


def test_a_call_without_time_left_still_gets_a_timeout() -> None:
    deadline = Deadline(1e-9)
    while not deadline.passed():
        pass
    assert deadline.left() == 0.001


@pytest.mark.parametrize("request_id", ["", "a b", "a\nb", "é", "x" * 129])
def test_a_request_id_that_can_not_be_sent_is_refused(request_id: str) -> None:
    with pytest.raises(InvalidRequest, match="request_id: .* must be 1 to 128 visible ASCII characters, no spaces"):
        checked_request_id(request_id)


def test_generated_request_ids_are_unique() -> None:
    assert checked_request_id("order-66") == "order-66"
    assert checked_request_id(None) != checked_request_id(None)


def test_the_default_model_is_this_services() -> None:
    assert default_model() == project.service()["name"]
