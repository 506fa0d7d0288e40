"""The service grpc.health.v1.Health.

Not grpc_health's servicer: once one of several watchers of a name has left, it tells the others nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_Answer = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package has no types
    """Report one status for all names: NOT_SERVING at first."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._status: health_pb2.HealthCheckResponse.ServingStatus = _Answer.NOT_SERVING
        self._changed = asyncio.Event()
        self._ended = False

    def set(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        """Report this status from now on, and tell the watchers."""
        self._status = status
        self._tell()

    def end_watches(self) -> None:
        """End every open stream after its last status, those after it too: each would hold up the server's stop."""
        self._ended = True
        self._tell()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """Answer with the status of a name."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "")
        return _Answer(status=self._status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: N802 - gRPC's name
        """Send the status of a name now and whenever it changes."""
        sent = None
        while True:
            changed = self._changed
            status = self._status if request.service in self._names else _Answer.SERVICE_UNKNOWN
            if status != sent:
                await context.write(_Answer(status=status))
                sent = status
            elif self._ended:
                return
            else:
                await changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
