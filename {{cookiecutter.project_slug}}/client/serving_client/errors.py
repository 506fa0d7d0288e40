"""What can go wrong, as exceptions that need no knowledge of gRPC.

    ServingClientError
    ├── InvalidRequest      the request is wrong; also a ValueError
    ├── NotFound            no such model, version or entity
    ├── Overloaded          the server refused more work; wait before the next attempt
    ├── Unavailable         no server answers, or it has no model; worth another attempt
    ├── DeadlineExceeded    no answer in time; also a TimeoutError
    ├── Cancelled           the call was given up
    └── ServerFault         the server failed; its log has the detail under `request_id`

A retry has been made where one could help by the time that any of these is raised.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc


class ServingClientError(Exception):
    """Base of all errors of this client.

    `code` is the name of the gRPC status code, `request_id` finds the call in the server's log.
    """

    def __init__(self, message: str, *, code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.request_id = request_id


class InvalidRequest(ServingClientError, ValueError):
    """The request does not fit the model; the message names the field, the value and what it must be."""


class NotFound(ServingClientError):
    """The server has no such model, version or entity."""


class Overloaded(ServingClientError):
    """The server has as many calls as it takes; this one was not begun."""


class Unavailable(ServingClientError):
    """No server could be reached, or it has no model to answer with, after all retries."""


class DeadlineExceeded(ServingClientError, TimeoutError):
    """There was no answer within the timeout."""


class Cancelled(ServingClientError):
    """The call was given up before there was an answer."""


class ServerFault(ServingClientError):
    """The server failed, or does not speak this protocol."""


_CLASSES: Mapping[grpc.StatusCode, type[ServingClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
}
"""Every other code is a ServerFault."""

_NO_ANSWER = "no answer within the timeout; the health check tells whether a server is up and SERVING."


def from_status(code: grpc.StatusCode, details: str | None, request_id: str) -> ServingClientError:
    """Return the error for the status that a call ended with."""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        details = _NO_ANSWER  # gRPC says no more than that the deadline was exceeded
    return _CLASSES.get(code, ServerFault)(details or code.name, code=code.name, request_id=request_id)
