"""Every class of malformed request gets by REST the status and the sentence that gRPC gives."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest

from serving.online.grpc.proto import open_inference_pb2 as pb
from tests.platform.support.malformed import MALFORMED, Malformed
from tests.platform.support.requests import MODEL
from tests.platform.support.rest import HEADER_LENGTH, INFER, Answer, as_rest, good_json, serving_rest, tensor_of
from tests.platform.support.services import fake_service

STATUS = {grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.NOT_FOUND: 404}
# What only protobuf can get wrong; what takes its place in JSON is below.
OF_PROTOBUF = {
    "empty request",
    *("no protobuf", "protobuf cut short", "text that is not UTF-8", "no contents at all"),
    *("more raw contents than inputs", "fewer raw contents than inputs"),
    *("typed contents in the wrong field", "typed contents in two fields"),
    *("path for a model name", "path for a version"),  # no such route
    *("model name of 100 KB", "emoji for a model name"),
    "id of 100 KB",
}
SHARED = [case for case in MALFORMED if case.name not in OF_PROTOBUF]
MAX_TEXT = 500


def check(answer: Answer, status: int, *words: str) -> None:
    """An answer must be a problem with one sentence."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status
    text = problem["detail"]
    assert problem["error"] == text
    assert text.isascii()
    assert text.isprintable()
    assert text.endswith(".")
    assert len(text) <= MAX_TEXT
    for word in words:
        assert word in text


async def ask(path: str, body: bytes, headers: dict[str, str]) -> Answer:
    """Send a request to a server of the rich model, which must then answer a good one."""
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = await rest.infer(body, path, headers=headers)
        assert (await rest.infer(good_json())).status == 200
    return answer


@pytest.mark.parametrize("case", SHARED, ids=str)
async def test_each_class_gets_the_sentence_that_grpc_gives(case: Malformed) -> None:
    answer = await ask(*as_rest(pb.ModelInferRequest.FromString(case.body())))
    check(answer, STATUS[case.code], *case.words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ("not JSON",)),
        (b"\xff" * 64, ("not JSON",)),
        (b'{"inputs": [', ("not JSON", "line 1")),
        (b'{"id": "\xff"}', ("not JSON",)),
        (b"[" * 2000, ("not JSON",)),
        (b"[]", ("the request", "object")),
        (b"3", ("the request", "object")),
        (b"{}", ("inputs: 0", "15")),
        (b'{"inputs": {}}', ("inputs", "list")),
        (b'{"inputs": [3]}', ("inputs.0", "object")),
        (b'{"inputs": [{"name": 3}]}', ("inputs.0.name", "string")),
        (b'{"inputs": [{"shape": [1.5]}]}', ("inputs.0.shape.0", "integer")),
        (b'{"inputs": [{"shape": "2"}]}', ("inputs.0.shape", "list")),
        (b'{"inputs": [{"parameters": []}]}', ("inputs.0.parameters", "dictionary")),
        (b'{"id": 3, "inputs": []}', ("id", "string")),
        (b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}", ("inputs.0", "object")),
    ],
    ids=range(16),
)
async def test_what_is_no_request_is_refused(body: bytes, words: tuple[str, ...]) -> None:
    check(await ask(INFER, body, {}), 400, *words)


def changed(name: str, **values: Any) -> bytes:
    request = good_json()
    tensor_of(request, name).update(values)
    return as_bytes(request)


def as_bytes(request: Any) -> bytes:
    return json.dumps(request).encode()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("fp32", None, ("data must be a list",)),
        ("fp32", 1.5, ("data must be a list",)),
        ("fp32", ["1.5", "2"], ("an element is text", "a number")),
        ("fp32", [True, 1], ("true or false", "a number")),
        ("fp32", [[1], [2]], ("a list", "a number")),
        ("fp32", [1e39, 0], ("row 0", "NaN or an infinity")),
        ("fp64", [1, None], ("row 1", "NaN or an infinity")),
        ("int64", [1 << 64, 0], ("an integer",)),
        ("int64", [1 << 63, 0], ("9223372036854775807",)),
        ("int64", [1.5, 0], ("an integer",)),
        ("uint64", [-1, 0], ("0 to 18446744073709551615",)),
        ("uint8", [256, 0], ("0 to 255",)),
        ("bool", [1, 0], ("a number", "true or false")),
        ("bytes", [1, "b"], ("a number", "text")),
        ("bytes", ["x" * 257, ""], ("257", "256")),
        ("matrix", [[1, 2, 3], [4, 5, 6]], ("[2, 2, 3]",)),
        ("matrix", [[[1, 2, 3], [4, 5, 6]], 7], ("[2, 2, 3]",)),
        ("matrix", [[[1, 2], [3, 4], [5, 6]]] * 2, ("[2, 2, 3]",)),
        ("matrix", [1] * 11, ("11 elements", "has 12")),
    ],
    ids=range(19),
)
async def test_elements_that_do_not_fit_are_refused(name: str, data: Any, words: tuple[str, ...]) -> None:
    check(await ask(INFER, changed(name, data=data), {}), 400, f"input '{name}'", *words)


@pytest.mark.parametrize(
    ("size", "length", "words"),
    [
        (9, None, ("beyond the body",)),
        (7, 0, ("7 bytes", "has 8")),
        (8, 1, ("9 bytes", "8")),
        (-1, 0, ("binary_data_size",)),
        (True, 0, ("binary_data_size",)),
        ("8", 0, ("binary_data_size",)),
    ],
    ids=range(6),
)
async def test_binary_data_that_do_not_fit_are_refused(size: Any, length: int | None, words: tuple[str, ...]) -> None:
    request = good_json()
    tensor = tensor_of(request, "fp32")
    del tensor["data"]
    tensor["parameters"] = {"binary_data_size": size}
    head = as_bytes(request)
    blobs = b"" if length is None else b"\0" * ((size if type(size) is int and size > 0 else 0) + length)
    check(await ask(INFER, head + blobs, {HEADER_LENGTH: str(len(head))}), 400, *words)


@pytest.mark.parametrize("length", ["", "-1", "x", "1e3", "\u0664", "9" * 30, "99999"])
async def test_a_wrong_length_of_the_json_is_refused(length: str) -> None:
    check(await ask(INFER, as_bytes(good_json()), {HEADER_LENGTH: length}), 400, HEADER_LENGTH)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v2/models/nobody/infer", 404, ("model 'nobody'", "rich")),
        ("/v2/models/rich/versions/2/infer", 404, ("version '2'", "version 1")),
        ("/v2/models/..%2f..%2fetc%2fpasswd/infer", 404, ("nothing at this path",)),
        ("/v2/models/%0d%0aforged/infer", 400, ("model_name '\\r\\nforged'",)),
        ("/v2/models/%00/infer", 400, ("model_name",)),
        ("/v2/models/%F0%9F%92%A9/infer", 400, (r"model_name '\U0001f4a9'",)),
        ("/v2/models/" + "n" * 8000 + "/infer", 400, ("'nnn", "1 to 128")),
        ("/v2/models/rich/versions/..%5c1/infer", 400, ("model_version",)),
        ("/v2/models/rich/explain", 404, ("nothing at this path",)),
    ],
    ids=range(9),
)
async def test_other_names_and_paths_are_refused(path: str, status: int, words: tuple[str, ...]) -> None:
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = await rest.infer(b"{}", path)
    check(answer, status, *words)


async def test_another_method_is_refused_with_the_right_one() -> None:
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = await rest.ask("DELETE", INFER)
    check(answer, 405, "another method")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("value", ["", "-1", "0", "nan", "inf", "soon"])
async def test_a_wrong_timeout_is_refused(value: str) -> None:
    check(await ask(INFER, as_bytes(good_json()), {"X-Request-Timeout": value}), 400, "x-request-timeout", "seconds")
