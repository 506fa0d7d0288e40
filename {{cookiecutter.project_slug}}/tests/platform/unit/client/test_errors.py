"""Each status code becomes its documented exception."""

from __future__ import annotations

import grpc
import pytest

import serving_client
from serving_client import (
    AccessDenied,
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
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_each_code_has_its_exception(code: grpc.StatusCode) -> None:
    error = from_status(code, "said the server.", "id-1")
    assert type(error) is KINDS.get(code, ServerFault)
    assert isinstance(error, ServingClientError)
    assert "said the server." in str(error)
    assert (error.code, error.request_id) == (code.name, "id-1")


def test_a_status_without_text_is_named() -> None:
    assert str(from_status(grpc.StatusCode.INTERNAL, None)) == "INTERNAL"


def test_a_missed_deadline_says_what_to_check() -> None:
    assert str(from_status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")) == (
        "no answer within the timeout; a health check says whether the server is up and SERVING."
    )


def test_a_missed_deadline_keeps_the_explanation_of_the_server() -> None:
    text = "the deadline of 0.100 s passed while the call waited."
    assert str(from_status(grpc.StatusCode.DEADLINE_EXCEEDED, text)) == text


def test_a_request_that_is_too_large_is_invalid_not_an_overload() -> None:
    error = from_status(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (9437184 vs. 8388608)"
    )
    assert type(error) is InvalidRequest
    assert str(error) == ("the request has 9437184 bytes, the server takes at most 8388608; send fewer rows at a time.")


def test_a_server_of_another_kind_is_reported_as_such() -> None:
    assert str(from_status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")) == (
        "the server at this address has no such call (Method not found!); is it another service?"
    )


def test_errors_also_derive_from_builtin_exceptions() -> None:
    assert issubclass(InvalidRequest, ValueError)
    assert issubclass(DeadlineExceeded, TimeoutError)


@pytest.mark.parametrize("name", serving_client.__all__)
def test_public_names_can_be_imported(name: str) -> None:
    assert getattr(serving_client, name).__name__ == name


def test_other_names_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        serving_client.Server  # noqa: B018
