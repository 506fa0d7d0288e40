"""Each status code becomes the exception that the documentation promises."""

from __future__ import annotations

import grpc
import pytest

import serving_client
from serving_client import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    ServerFault,
    ServingClientError,
    Unavailable,
)
from serving_client.errors import from_status

KINDS = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_a_code_has_its_exception(code: grpc.StatusCode) -> None:
    error = from_status(code, "said the server.", "id-1")
    assert type(error) is KINDS.get(code, ServerFault)
    assert isinstance(error, ServingClientError)
    assert "said the server." in str(error)
    assert (error.code, error.request_id) == (code.name, "id-1")


def test_a_status_without_text_is_named() -> None:
    assert str(from_status(grpc.StatusCode.INTERNAL, None)) == "INTERNAL"


def test_a_deadline_says_what_to_look_at() -> None:
    assert str(from_status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")) == (
        "no answer within the timeout; the health check tells whether a server is up and SERVING."
    )


def test_a_deadline_that_the_server_explains_keeps_its_words() -> None:
    text = "the deadline of 0.100 s passed while the call waited."
    assert str(from_status(grpc.StatusCode.DEADLINE_EXCEEDED, text)) == text


def test_a_request_that_is_too_large_is_no_overload() -> None:
    error = from_status(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (9437184 vs. 8388608)"
    )
    assert type(error) is InvalidRequest
    assert str(error) == ("the request has 9437184 bytes, the server takes 8388608 at most; send fewer rows at a time.")


def test_another_kind_of_server_is_said_to_be_one() -> None:
    assert str(from_status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")) == (
        "the server at this address has no such call (Method not found!); is it another service?"
    )


def test_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(InvalidRequest, ValueError)
    assert issubclass(DeadlineExceeded, TimeoutError)


@pytest.mark.parametrize("name", serving_client.__all__)
def test_public_names_can_be_imported(name: str) -> None:
    assert getattr(serving_client, name).__name__ == name


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        serving_client.Server  # noqa: B018
