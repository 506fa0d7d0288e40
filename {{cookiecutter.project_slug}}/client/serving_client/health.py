"""Health checks by grpc.health.v1; imports no NumPy, since container health checks run often."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc

from ._proto import health_pb2
from .channel import INFERENCE
from .deadline import Deadline
from .errors import DeadlineExceeded, ServingClientError, Unavailable, from_status

_MESSAGES = (health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString)
CHECK = ("/grpc.health.v1.Health/Check", *_MESSAGES)
WATCH = ("/grpc.health.v1.Health/Watch", *_MESSAGES)
REQUEST = health_pb2.HealthCheckRequest(service=INFERENCE)

SERVING = "SERVING"

PAUSE_S = 0.1
"""Between two watches: a proxy ends them at once while its server is unavailable."""


def status_name(response: health_pb2.HealthCheckResponse) -> str:
    """Return SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN."""
    return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)


def check_failed(code: grpc.StatusCode, details: str | None) -> str:
    """Return the health status for the error of a check.

    :raises ServingClientError: the error means no status
    """
    if code is grpc.StatusCode.NOT_FOUND:  # Watch reports SERVICE_UNKNOWN instead
        return "SERVICE_UNKNOWN"
    raise from_status(code, details) from None


def not_ready(timeout: float, last: str | ServingClientError) -> DeadlineExceeded:
    """Return the error of a wait that timed out; `last` is the last status or error."""
    return DeadlineExceeded(
        f"the server is not {SERVING} after {timeout} s; last status: {last}",
        code=grpc.StatusCode.DEADLINE_EXCEEDED.name,
    )


class Health:
    """Check a server's health, even without a model; of several servers, the first that answers."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._check = self._channel.unary_unary(*CHECK)
        self._watch = self._channel.unary_stream(*WATCH)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def check(self, *, timeout: float) -> str:
        """Return the status now.

        :raises Unavailable: no server answers
        """
        try:
            return status_name(self._check(REQUEST, timeout=Deadline(timeout).left()))
        except grpc.RpcError as error:
            return check_failed(error.code(), error.details())

    def watch(self, *, timeout: float) -> Iterator[str]:
        """Yield the status now and at every change, for `timeout` seconds."""
        call = self._watch(REQUEST, timeout=Deadline(timeout).left(), wait_for_ready=True)
        try:
            for response in call:
                yield status_name(response)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise from_status(error.code(), error.details()) from None
        finally:
            call.cancel()

    def wait_ready(self, *, timeout: float) -> None:
        """Wait until the server reports SERVING.

        :raises DeadlineExceeded: it does not within `timeout` seconds
        """
        deadline = Deadline(timeout)
        last: str | ServingClientError = "nothing."
        while not deadline.passed():
            try:
                for last in self.watch(timeout=deadline.left()):
                    if last == SERVING:
                        return
            except Unavailable as error:  # it became unavailable during the watch; the next watch waits for its return
                last = error
            time.sleep(min(PAUSE_S, deadline.left()))
        raise not_ready(timeout, last)
