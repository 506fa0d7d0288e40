"""The client's exceptions; you need no knowledge of gRPC.

    ServingClientError
    ├── InvalidRequest      the request is wrong; also a ValueError
    ├── AccessDenied        the server does not let this caller in
    ├── NotFound            no such model, version or entity
    ├── Overloaded          the server refused the call; wait before the next attempt
    ├── Unavailable         no server answers, or it has no model; retry later
    ├── DeadlineExceeded    no answer in time; also a TimeoutError
    ├── Cancelled           the client was closed before or during the call
    └── ServerFault         the server failed; its log has the detail under `request_id`

The client has already retried where a retry could help.
"""

from __future__ import annotations

import re
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


class AccessDenied(ServingClientError):
    """The server needs a valid token, or lets in other client certificates only."""


class NotFound(ServingClientError):
    """The server has no such model, version or entity."""


class Overloaded(ServingClientError):
    """The server has too many calls; it did not start this one."""


class Unavailable(ServingClientError):
    """No server is reachable, or it has no model, after all retries."""


class DeadlineExceeded(ServingClientError, TimeoutError):
    """There was no answer within the timeout."""


class Cancelled(ServingClientError):
    """The client was closed before there was an answer."""


class ServerFault(ServingClientError):
    """The server failed, or does not speak this protocol."""


_CLASSES: Mapping[grpc.StatusCode, type[ServingClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
}
"""Every other code is a ServerFault."""

_NO_ANSWER = "no answer within the timeout; a health check says whether the server is up and SERVING."
_SILENT = "Deadline Exceeded"
_TOO_LARGE = re.compile(r"Received message larger than max \((\d+) vs\. (\d+)\)")


def from_status(code: grpc.StatusCode, details: str | None, request_id: str = "") -> ServingClientError:
    """Return the error for a call's status."""
    kind = _CLASSES.get(code, ServerFault)
    text = details or code.name
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and text == _SILENT:
        text = _NO_ANSWER
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        text = f"the server at this address has no such call ({text}); is it another service?"
    elif large := _TOO_LARGE.search(text):
        # gRPC uses the code of an overload for a request that is too large, which no waiting helps.
        kind = InvalidRequest
        text = f"the request has {large[1]} bytes, the server takes at most {large[2]}; send fewer rows at a time."
    return kind(text, code=code.name, request_id=request_id)


def to_status(error: ServingClientError) -> tuple[grpc.StatusCode, str]:
    """Return the status that `from_status` turns into an error of this kind and text."""
    names = [code.name for code, kind in _CLASSES.items() if isinstance(error, kind)]
    return grpc.StatusCode[error.code or next(iter(names), grpc.StatusCode.INTERNAL.name)], error.message


def closed(request_id: str = "") -> Cancelled:
    """Return the error of a call on a closed client."""
    return Cancelled("the client is closed; make a new one.", code="CANCELLED", request_id=request_id)
