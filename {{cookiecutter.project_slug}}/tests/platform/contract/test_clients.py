"""The clients and the fakes for callers' tests: the same answers and refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from serving.domain.tensors import Datatype
from serving_client import AsyncClient, Cancelled, Client, InvalidRequest, ModelMetadata, NotFound
from serving_client.testing import FakeAsyncClient, FakeClient
from tests.platform.support.artifacts import rich
from tests.platform.support.callers import PATIENCE_S, Caller, ThreadedClient
from tests.platform.support.server import serving
from tests.platform.support.services import DIGEST, MAX_ROWS, answer_of, fake_service

MODEL = rich((Datatype.FP32, Datatype.INT64, Datatype.BOOL, Datatype.BYTES, Datatype.TEXT))
INPUTS: dict[str, Any] = {
    "fp32": [0.5, 2],
    "int64": np.array([1, -(2**62)]),
    "bool": [True, False],
    "bytes": ["one", b"\xff"],
    "text": ["Zürich", b"Gen\xc3\xa8ve"],
    "matrix": np.arange(12).reshape(2, 2, 3),
    "words": [["a", "b"], ["c", ""]],
}
NONE: dict[str, Any] = {name: [] for name in INPUTS} | {"matrix": np.empty((0, 2, 3)), "words": np.empty((0, 2))}

Make = Callable[[str, ModelMetadata], Caller]
CLIENTS: dict[str, Make] = {
    "asyncio": lambda target, _: AsyncClient(target, model=MODEL.name),
    "blocking": lambda target, _: ThreadedClient(target, model=MODEL.name),
    "fake-asyncio": lambda _, metadata: FakeAsyncClient(metadata, answer_of(MODEL)),
    "fake-blocking": lambda _, metadata: ThreadedClient(client=FakeClient(metadata, answer_of(MODEL))),
}


@pytest.fixture
async def target() -> AsyncIterator[str]:
    async with serving(fake_service(MODEL)) as wire:
        yield wire.target


@pytest.fixture
async def described(target: str) -> ModelMetadata:
    async with AsyncClient(target, model=MODEL.name) as client:
        return await client.metadata(timeout=PATIENCE_S)


@pytest.fixture(params=CLIENTS)
async def client(request: pytest.FixtureRequest, target: str, described: ModelMetadata) -> AsyncIterator[Caller]:
    made = CLIENTS[request.param](target, described)
    yield made
    await made.close()


async def test_an_answer_has_the_declared_types_and_names_its_model(client: Caller) -> None:
    answer = await client.predict(INPUTS, timeout=PATIENCE_S, request_id="order-66", version="1")
    assert list(answer) == [f"{name}_out" for name in INPUTS]
    assert answer["text_out"].tolist() == ["Zürich", "Genève"]
    for name, values in [(name, values) for name, values in INPUTS.items() if name != "text"]:
        given = answer[f"{name}_out"]
        wanted = np.asarray(values, given.dtype)
        if given.dtype == object:
            wanted = np.array([item.encode() if isinstance(item, str) else item for item in wanted.flat], object)
        np.testing.assert_array_equal(given, wanted.reshape(given.shape))
    assert [answer[f"{name}_out"].dtype for name in INPUTS] == ["<f4", "<i8", "?", "O", "O", "<f4", "O"]
    assert (answer.model, answer.model_version, answer.artifact_digest) == (MODEL.name, "1", DIGEST)
    assert (answer.request_id, answer.defaulted, answer.last_known) == ("order-66", {}, {})


async def test_arrays_in_an_answer_are_read_only(client: Caller) -> None:
    answer = await client.predict(INPUTS, timeout=PATIENCE_S)
    assert [answer[f"{name}_out"].flags.writeable for name in INPUTS] == [False, False, False, True, True, False, True]


async def test_outputs_can_be_chosen(client: Caller) -> None:
    answer = await client.predict(INPUTS, timeout=PATIENCE_S, outputs=["words_out", "fp32_out"])
    assert list(answer) == ["words_out", "fp32_out"]


async def test_a_request_id_is_generated(client: Caller) -> None:
    first, second = [(await client.predict(INPUTS, timeout=PATIENCE_S)).request_id for _ in range(2)]
    assert first
    assert first != second


async def test_the_model_is_described(client: Caller, described: ModelMetadata) -> None:
    assert await client.metadata(timeout=PATIENCE_S) == described


async def test_health_is_reported(client: Caller) -> None:
    assert await client.health(timeout=PATIENCE_S) == "SERVING"
    assert await client.is_ready(timeout=PATIENCE_S)
    await client.wait_ready(timeout=PATIENCE_S)
    assert await anext(client.watch_health(timeout=PATIENCE_S)) == "SERVING"


@pytest.mark.parametrize(
    ("inputs", "arguments", "error", "sentence"),
    [
        (
            INPUTS | {"size": [1]},
            {},
            InvalidRequest,
            "input 'size' is unknown; the inputs are fp32, int64, bool, bytes, text, matrix, words.",
        ),
        (
            {"fp32": [1.0]},
            {},
            InvalidRequest,
            "input 'int64' is missing; the inputs are fp32, int64, bool, bytes, text, matrix, words.",
        ),
        (INPUTS | {"int64": [1, 0.5]}, {}, InvalidRequest, "input 'int64': row 1 has 0.5, must be a whole number;"),
        (INPUTS | {"fp32": [1, "a"]}, {}, InvalidRequest, "input 'fp32': row 1 has 'a', must be a number (FP32)."),
        (INPUTS | {"matrix": [1, 2]}, {}, InvalidRequest, "input 'matrix': its shape is [2], must be [rows, 2, 3]"),
        (INPUTS | {"bool": [True]}, {}, InvalidRequest, "input 'bool': has 1 rows, the inputs before it have 2."),
        (NONE, {}, InvalidRequest, f"input 'fp32': has 0 rows, must have 1 to {MAX_ROWS}; split a larger batch."),
        (
            {name: np.repeat(np.asarray(values, object), MAX_ROWS, axis=0) for name, values in INPUTS.items()},
            {},
            InvalidRequest,
            f"input 'fp32': has {2 * MAX_ROWS} rows, must have 1 to {MAX_ROWS}; split a larger batch.",
        ),
        (INPUTS, {"outputs": ["sum"]}, InvalidRequest, "output 'sum' is unknown; the outputs are fp32_out, int64_out,"),
        (
            INPUTS,
            {"outputs": ["bool_out", "bool_out"]},
            InvalidRequest,
            "outputs: the same output is asked for twice.",
        ),
        (INPUTS, {"version": "2"}, NotFound, "model version '2' is not served here; this server has version 1."),
        (NONE, {"version": "2"}, NotFound, "model version '2' is not served here; this server has version 1."),
        (INPUTS, {"request_id": "a b"}, InvalidRequest, "request_id: 'a b' must be 1 to 128 visible ASCII characters,"),
        (INPUTS, {"timeout": 0}, InvalidRequest, "timeout: 0 is not valid; give seconds, more than 0 and"),
    ],
    ids=[
        *("unknown input", "missing input", "fraction", "word", "shape", "rows", "no row", "too many rows"),
        *("unknown output", "output twice", "version", "version and no row", "request id", "timeout"),
    ],
)
async def test_a_request_that_does_not_fit_is_refused(
    client: Caller, inputs: Any, arguments: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    await client.predict(INPUTS, timeout=PATIENCE_S)  # the first call reads the metadata
    with pytest.raises(error) as caught:
        await client.predict(inputs, **{"timeout": PATIENCE_S} | arguments)
    assert type(caught.value) is error
    assert str(caught.value).startswith(sentence)


async def test_a_refusal_by_the_server_has_code_and_request_id(client: Caller) -> None:
    with pytest.raises(NotFound) as caught:
        await client.predict(INPUTS, timeout=PATIENCE_S, version="2", request_id="order-66")
    assert (caught.value.code, caught.value.request_id) == ("NOT_FOUND", "order-66")


@pytest.mark.parametrize("call", ["metadata", "health", "is_ready", "wait_ready"])
async def test_every_call_needs_a_valid_timeout(client: Caller, call: str) -> None:
    with pytest.raises(TypeError, match="timeout"):
        await getattr(client, call)()
    with pytest.raises(InvalidRequest, match="^timeout: -1 is not valid"):
        await getattr(client, call)(timeout=-1)


async def test_a_prediction_needs_a_timeout(client: Caller) -> None:
    with pytest.raises(TypeError, match="timeout"):
        await client.predict(INPUTS)


async def test_a_closed_client_refuses_every_call(client: Caller) -> None:
    await client.close()
    for call in (
        lambda: client.predict(INPUTS, timeout=PATIENCE_S),
        lambda: client.metadata(timeout=PATIENCE_S),
        lambda: client.health(timeout=PATIENCE_S),
        lambda: client.is_ready(timeout=PATIENCE_S),
        lambda: client.wait_ready(timeout=PATIENCE_S),
        lambda: anext(client.watch_health(timeout=PATIENCE_S)),
    ):
        with pytest.raises(Cancelled, match=r"^the client is closed; make a new one\.$"):
            await call()


@pytest.mark.parametrize("fake", [False, True], ids=["real", "fake"])
def test_the_blocking_client_closes_with_its_block(described: ModelMetadata, fake: bool) -> None:
    made = FakeClient(described, answer_of(MODEL)) if fake else Client("127.0.0.1:1")
    with made as client:
        assert client is made
    with pytest.raises(Cancelled):
        made.metadata(timeout=PATIENCE_S)


@pytest.mark.parametrize("fake", [False, True], ids=["real", "fake"])
async def test_the_asyncio_client_closes_with_its_block(described: ModelMetadata, fake: bool) -> None:
    made = FakeAsyncClient(described, answer_of(MODEL)) if fake else AsyncClient("127.0.0.1:1")
    async with made as client:
        assert client is made
    with pytest.raises(Cancelled):
        await made.metadata(timeout=PATIENCE_S)
