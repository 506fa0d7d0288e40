"""Servers and clients that end with their test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest

from tests.platform.support.callers import CALLERS, Caller
from tests.platform.support.fake_server import MODEL, FakeServer

Serve = Callable[..., FakeServer]
Connect = Callable[..., Caller]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start fake servers."""
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(FakeServer(**options))


@pytest.fixture
def server(serve: Serve) -> FakeServer:
    """Return a server that answers everything."""
    return serve()


@pytest.fixture(params=CALLERS, ids=["asyncio", "blocking"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Make clients, of either kind."""
    async with AsyncExitStack() as clients:

        def make(target: str, **options: Any) -> Caller:
            client: Caller = request.param(target, **{"model": MODEL, **options})
            clients.push_async_callback(client.close)
            return client

        yield make
