from __future__ import annotations

from collections.abc import Iterator

import pytest
from grpc import StatusCode

from serving.domain import errors
from serving.online.grpc.status import CODES, status_of
from serving.online.refusals import INTERNAL_TEXT

EXPECTED = {
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.UnknownEntity: StatusCode.NOT_FOUND,
    errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.NotReady: StatusCode.UNAVAILABLE,
    errors.FeaturesOutdated: StatusCode.FAILED_PRECONDITION,
    errors.FeatureStoreUnavailable: StatusCode.UNAVAILABLE,
    errors.FeaturesNotFilled: StatusCode.UNAVAILABLE,
    errors.ModelFailed: StatusCode.INTERNAL,
}


def below(kind: type[errors.ServingError]) -> Iterator[type[errors.ServingError]]:
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


@pytest.mark.parametrize(("kind", "code"), EXPECTED.items(), ids=lambda value: getattr(value, "__name__", None))
def test_every_exception_has_its_code(kind: type[errors.ServingError], code: StatusCode) -> None:
    assert status_of(kind("the text."))[0] is code


def test_every_exception_that_a_call_can_raise_is_in_the_table() -> None:
    at_start_only = {errors.OperatorError, *below(errors.OperatorError)}
    assert set(CODES) == set(below(errors.ServingError)) - at_start_only == set(EXPECTED)


@pytest.mark.parametrize("kind", [kind for kind, code in EXPECTED.items() if code is not StatusCode.INTERNAL])
def test_the_text_of_a_client_error_reaches_the_caller(kind: type[errors.ServingError]) -> None:
    assert status_of(kind("input 'x' is missing."))[1] == "input 'x' is missing."


@pytest.mark.parametrize(
    "error",
    [
        errors.ModelFailed("onnxruntime: /srv/model.onnx has secrets"),
        errors.ArtifactError("/srv/artifacts: is missing"),
        errors.SettingsError("SERVING_TLS_KEY=/srv/key.pem"),
        errors.ServingError("detail"),
    ],
)
def test_the_text_of_an_internal_error_does_not_reach_the_caller(error: errors.ServingError) -> None:
    assert status_of(error) == (StatusCode.INTERNAL, INTERNAL_TEXT)


def test_error_texts_are_bounded() -> None:
    assert len(status_of(errors.InvalidRequest("x" * 10_000))[1]) <= 500
