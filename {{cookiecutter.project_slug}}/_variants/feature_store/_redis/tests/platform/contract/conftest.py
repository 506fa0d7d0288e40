"""A real Redis for the contract of a feature store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.platform.support import redis_container


@pytest.fixture(scope="session")
def container() -> Iterator[str]:
    """Run a Redis; yield its container."""
    with redis_container.running() as name:
        yield name


@pytest.fixture
def address(container: str) -> str:
    """Return `host:port` of the Redis, empty and running."""
    return redis_container.emptied(container)
