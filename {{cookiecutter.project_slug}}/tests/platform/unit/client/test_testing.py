"""The fakes do what a test scripts, and record what they were asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving_client import (
    Cancelled,
    Client,
    DeadlineExceeded,
    InvalidRequest,
    ModelMetadata,
    NotFound,
    Overloaded,
    ServerFault,
    ServingClientError,
    TensorMetadata,
    Unavailable,
)
from serving_client.testing import Answers, FakeAsyncClient, FakeClient

INPUTS = (TensorMetadata("amount", "FP64", (-1,)), TensorMetadata("country", "BYTES", (-1,)))
OUTPUTS = (
    TensorMetadata("label", "INT64", (-1,)),
    TensorMetadata("probabilities", "FP32", (-1, 2)),
    TensorMetadata("word", "BYTES", (-1,)),
)
METADATA = ModelMetadata("fraud", ("7",), "fake", INPUTS, OUTPUTS)
FIXED: dict[str, Any] = {"label": 1, "probabilities": [0.25, 0.75], "word": "yes"}
GOOD: dict[str, Any] = {"amount": [12, 99], "country": ["CH", "FR"]}
SOON_S = 0.2
TIMEOUT_S = 30.0

ERRORS = (Cancelled, DeadlineExceeded, InvalidRequest, NotFound, Overloaded, ServerFault, Unavailable)


def test_a_fake_passes_for_a_client() -> None:
    assert isinstance(FakeClient(METADATA, FIXED), Client)


def test_fixed_answers_are_repeated_for_every_row() -> None:
    prediction = FakeClient(METADATA, FIXED).predict(GOOD, timeout=TIMEOUT_S)
    assert prediction["label"].tolist() == [1, 1]
    assert prediction["probabilities"].tolist() == [[0.25, 0.75]] * 2
    assert prediction["word"].tolist() == [b"yes", b"yes"]
    assert (prediction.model, prediction.model_version, prediction.artifact_digest) == ("fraud", "7", "")


def test_a_function_gets_arrays_as_the_model_would() -> None:
    def answers(inputs: Any) -> Any:
        assert (inputs["amount"].dtype, inputs["country"].tolist()) == (np.float64, [b"CH", b"FR"])
        return FIXED | {"label": inputs["amount"] > 50, "probabilities": np.eye(2), "word": inputs["country"]}

    with pytest.raises(ValueError, match=r"^answers: 'label' does not fit \[rows\]: .* must be a number \(INT64\)\.$"):
        FakeClient(METADATA, answers).predict(GOOD, timeout=TIMEOUT_S)
    fake = FakeClient(METADATA, lambda inputs: answers(inputs) | {"label": [0, 1]})
    assert fake.predict(GOOD, timeout=TIMEOUT_S)["label"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"label": 1}, r"^answers: has label, must have label, probabilities, word\.$"),
        ({}, r"^answers: has nothing, must have label, probabilities, word\.$"),
        (FIXED | {"score": 1}, r"^answers: has label, probabilities, word, score, must have label, probab"),
        (FIXED | {"label": 0.5}, r"^answers: 'label' does not fit \[rows\]: row 0 has 0\.5, must be a whole number"),
        (FIXED | {"probabilities": [1, 2, 3]}, r"^answers: 'probabilities' does not fit \[rows, 2\]: "),
    ],
    ids=["missing", "none", "unknown", "fraction", "shape"],
)
def test_fixed_answers_that_do_not_fit_are_refused_at_once(answers: Answers, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        FakeClient(METADATA, answers)


def test_a_functions_own_error_reaches_the_test() -> None:
    def answers(inputs: Any) -> Any:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        FakeClient(METADATA, answers).predict(GOOD, timeout=TIMEOUT_S)


def test_a_function_can_refuse_as_a_server_does() -> None:
    def answers(inputs: Any) -> Any:
        raise NotFound("nobody of this name.")

    with pytest.raises(NotFound, match="nobody") as caught:
        FakeClient(METADATA, answers).predict(GOOD, timeout=TIMEOUT_S, request_id="order-66")
    assert (caught.value.code, caught.value.request_id) == ("NOT_FOUND", "order-66")


def test_requests_are_recorded() -> None:
    fake = FakeClient(METADATA, FIXED)
    fake.raise_next(Overloaded("busy."))
    with pytest.raises(Overloaded):
        fake.predict(GOOD, timeout=TIMEOUT_S)
    fake.predict(GOOD, timeout=TIMEOUT_S, outputs=["word"], version="7", request_id="order-66")
    with pytest.raises(InvalidRequest):
        fake.predict({}, timeout=TIMEOUT_S)  # never sent
    first, second = fake.requests
    assert (first.outputs, first.version) == ((), "")
    assert (second.outputs, second.version, second.request_id) == (("word",), "7", "order-66")
    assert second.inputs["amount"].tolist() == [12.0, 99.0]


@pytest.mark.parametrize("kind", ERRORS)
def test_it_raises_the_given_errors_one_per_call(kind: type[ServingClientError]) -> None:
    fake = FakeClient(METADATA, FIXED)
    fake.raise_next(kind("one."), kind("two."), kind("three.", code="UNKNOWN"))
    for text in ("one.", "two."):
        with pytest.raises(kind) as caught:
            fake.predict(GOOD, timeout=TIMEOUT_S, request_id="order-66")
        assert (type(caught.value), str(caught.value), caught.value.request_id) == (kind, text, "order-66")
        assert caught.value.code
    with pytest.raises(ServerFault, match=r"^three\.$"):
        fake.predict(GOOD, timeout=TIMEOUT_S)
    assert fake.predict(GOOD, timeout=TIMEOUT_S)


def test_every_call_can_fail() -> None:
    fake = FakeClient(METADATA, FIXED)
    for call in (fake.metadata, fake.health, fake.is_ready, lambda timeout: list(fake.watch_health(timeout=timeout))):
        fake.raise_next(Unavailable("gone."))
        with pytest.raises(Unavailable, match=r"^gone\.$"):
            call(timeout=TIMEOUT_S)


async def test_every_call_can_fail_in_asyncio() -> None:
    fake = FakeAsyncClient(METADATA, FIXED)
    for call in (fake.metadata, fake.health, fake.is_ready, lambda timeout: anext(fake.watch_health(timeout=timeout))):
        fake.raise_next(Unavailable("gone."))
        with pytest.raises(Unavailable, match=r"^gone\.$"):
            await call(timeout=TIMEOUT_S)
    assert (await fake.predict(GOOD, timeout=TIMEOUT_S))["label"].tolist() == [1, 1]


def test_an_error_of_another_kind_is_not_accepted() -> None:
    error: Any = ValueError("x")
    with pytest.raises(TypeError, match=r"^raise_next: ValueError\('x'\) is not an error of this client"):
        FakeClient(METADATA, FIXED).raise_next(error)


def test_the_health_can_be_set() -> None:
    fake = FakeClient(METADATA, FIXED)
    fake.set_health("NOT_SERVING")
    assert fake.health(timeout=TIMEOUT_S) == "NOT_SERVING"
    assert not fake.is_ready(timeout=TIMEOUT_S)
    assert list(fake.watch_health(timeout=TIMEOUT_S)) == ["NOT_SERVING"]
    with pytest.raises(DeadlineExceeded, match="last status: NOT_SERVING"):
        fake.wait_ready(timeout=SOON_S)


def test_predictions_say_where_a_substitute_was_used() -> None:
    fake = FakeClient(METADATA, FIXED, defaulted={"age": [0]}, last_known={"income": (0, 1)})
    prediction = fake.predict(GOOD, timeout=TIMEOUT_S)
    assert (prediction.defaulted, prediction.last_known) == ({"age": (0,)}, {"income": (0, 1)})
