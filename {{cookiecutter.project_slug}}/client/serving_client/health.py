"""The health of a server, as grpc.health.v1 says it; imports no NumPy, since container health checks run it often."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc

from ._proto import health_pb2
from .channel import INFERENCE, OPTIONS, Tls, address
from .errors import DeadlineExceeded, ServingClientError, Unavailable, from_status

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
SERVING = "SERVING"


def status_name(response: Any) -> str:
    """Return SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN."""
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


def request() -> health_pb2.HealthCheckRequest:
    """Return the question for the service that predicts."""
    return health_pb2.HealthCheckRequest(service=INFERENCE)


class Health:
    """Ask one server, or all behind a name in turn, how it is; also when it has no model."""

    def __init__(self, target: str, *, tls: Tls | None = None) -> None:
        options = OPTIONS + (tls.options() if tls else ())
        self._channel = (
            grpc.secure_channel(address(target), tls.credentials(), options)
            if tls
            else grpc.insecure_channel(address(target), options)
        )
        self._check = self._channel.unary_unary(
            CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        self._watch = self._channel.unary_stream(
            WATCH,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def check(self, *, timeout: float) -> str:
        """Return the status now.

        :raises Unavailable: no server answers
        """
        try:
            return status_name(self._check(request(), timeout=timeout))
        except grpc.RpcError as error:
            raise from_status(error.code(), error.details(), "") from None

    def watch(self, *, timeout: float) -> Iterator[str]:
        """Give the status now and at every change, for `timeout` seconds."""
        try:
            for response in self._watch(request(), timeout=timeout, wait_for_ready=True):
                yield status_name(response)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise from_status(error.code(), error.details(), "") from None

    def wait_ready(self, *, timeout: float) -> None:
        """Return as soon as the server says SERVING.

        :raises DeadlineExceeded: it did not within `timeout` seconds
        """
        end = time.monotonic() + timeout
        last: str | ServingClientError = "no answer"
        while (left := end - time.monotonic()) > 0:
            try:
                for last in self.watch(timeout=left):
                    if last == SERVING:
                        return
            except Unavailable as error:  # it went away while we watched; the next watch waits for its return
                last = error
        raise DeadlineExceeded(f"the server is not {SERVING} after {timeout} s: {last}.", code="DEADLINE_EXCEEDED")
