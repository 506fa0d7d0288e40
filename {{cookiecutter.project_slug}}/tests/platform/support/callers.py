"""Both clients under one interface, so that every scenario is written once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from serving_client import AsyncClient, Client, ModelMetadata, Prediction

_Answer = TypeVar("_Answer")

PATIENCE_S = 30.0
"""The timeout of calls that shall succeed; only a test that fails waits that long."""


class Caller(Protocol):
    """What both clients do, with the signatures of `AsyncClient`."""

    async def predict(self, inputs: Any, **arguments: Any) -> Prediction: ...
    async def metadata(self, *, timeout: float) -> ModelMetadata: ...
    async def health(self, *, timeout: float) -> str: ...
    async def is_ready(self, *, timeout: float) -> bool: ...
    async def wait_ready(self, *, timeout: float) -> None: ...
    def watch_health(self, *, timeout: float) -> AsyncGenerator[str, None]: ...
    async def close(self) -> None: ...


class ThreadedClient:
    """Call a `Client` from threads, so that it does not block the test."""

    def __init__(self, target: str | None = None, *, client: Client | None = None, **options: Any) -> None:
        self._client = client or Client(target, **options)
        self._threads = ThreadPoolExecutor(32)

    async def _run(self, call: Callable[..., _Answer], *values: Any, **arguments: Any) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *values, **arguments))

    async def predict(self, inputs: Any, **arguments: Any) -> Prediction:
        return await self._run(self._client.predict, inputs, **arguments)

    async def metadata(self, *, timeout: float) -> ModelMetadata:
        return await self._run(self._client.metadata, timeout=timeout)

    async def health(self, *, timeout: float) -> str:
        return await self._run(self._client.health, timeout=timeout)

    async def is_ready(self, *, timeout: float) -> bool:
        return await self._run(self._client.is_ready, timeout=timeout)

    async def wait_ready(self, *, timeout: float) -> None:
        await self._run(self._client.wait_ready, timeout=timeout)

    async def watch_health(self, *, timeout: float) -> AsyncGenerator[str, None]:
        statuses = self._client.watch_health(timeout=timeout)
        while (status := await self._run(next, statuses, None)) is not None:
            yield status

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)  # the threads end with this object: a closed client still refuses


CALLERS: tuple[type[Caller], ...] = (AsyncClient, ThreadedClient)
