"""The contract on a real Redis, in a container of its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import redis

from serving.adapters.redis_store import Address, RedisStore, RedisWriter
from serving.errors import FeatureStoreAway, SettingsError
from tests.contract.feature_store_contract import AGE, LONG_S, FeatureStoreContract
from tests.support import filling, redis_container


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    """Run a Redis; give its container."""
    with redis_container.running() as name:
        yield name


@pytest.fixture
def url(container: str) -> str:
    """Return the address of an empty Redis that answers."""
    return f"redis://{redis_container.emptied(container)}/0"


class TestRedisStore(FeatureStoreContract):
    @pytest.fixture(autouse=True)
    def _on(self, container: str, url: str) -> None:
        self.container, self.url = container, url

    def reader(self, folder: Path) -> RedisStore:
        return RedisStore.open(self.url)

    def writer(self, folder: Path) -> RedisWriter:
        return RedisWriter.open(self.url)

    @contextmanager
    def stalled(self, folder: Path) -> Iterator[RedisStore]:
        with self.away(folder):
            yield self.reader(folder)

    @contextmanager
    def away(self, folder: Path) -> Iterator[None]:
        with redis_container.frozen(self.container):
            yield


async def test_a_redis_that_was_emptied_has_nothing_rather_than_zeros(url: str) -> None:
    writer, store = RedisWriter.open(url), RedisStore.open(url)
    writer.write([AGE], [b"ann"], {"age": np.array([31.0], np.float32)}, watermark="filled")
    assert writer.watermark() == "filled"
    with redis.Redis.from_url(url) as client:
        client.flushall()
    assert writer.watermark() == ""
    assert not (await store.read([b"ann"], [AGE], timeout=LONG_S))["age"].present.any()
    await store.close()


class Bottleneck:
    """Pass on to a Redis what comes, up to so many bytes, and its answers; then say so and hold the rest back."""

    def __init__(self, url: str, limit: int) -> None:
        self._redis = Address.parse(url)
        self._left = limit
        self.reached, self.ended = asyncio.Event(), asyncio.Event()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, commands = await asyncio.open_connection(self._redis.host, self._redis.port)
        back = asyncio.create_task(self._copy(answers, writer))
        while self._left and (part := await reader.read(self._left)):
            self._left -= len(part)
            commands.write(part)
            await commands.drain()
        self.reached.set()
        with suppress(ConnectionError):  # what is held back is lost with its writer
            while await reader.read(1 << 16):
                pass
        commands.write_eof()
        await back  # Redis has taken note
        self.ended.set()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while part := await source.read(1 << 16):
            target.write(part)
        target.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_writer_that_is_killed_half_way_changes_nothing(url: str, number: signal.Signals) -> None:
    writer, store = RedisWriter.open(url), RedisStore.open(url)
    filling.fill(writer, 1.0)
    bottleneck = Bottleneck(url, limit=40_000)
    async with await asyncio.start_server(bottleneck.carry, "127.0.0.1") as door, asyncio.timeout(LONG_S):
        port = door.sockets[0].getsockname()[1]
        command = filling.command(f"redis://127.0.0.1:{port}/0")
        process = await asyncio.create_subprocess_exec(*command, env=filling.ENVIRONMENT)
        await bottleneck.reached.wait()
        process.send_signal(number)
        assert await process.wait() == -number
        await bottleneck.ended.wait()
    assert await filling.values(store) == {1.0}
    assert writer.watermark() == "1.0"
    filling.fill(writer, 3.0)
    assert await filling.values(store) == {3.0}
    with redis.Redis.from_url(url) as client:
        assert client.dbsize() == len(filling.KEYS) + 1
    await store.close()


async def test_where_nobody_listens_the_store_is_away_and_the_breaker_opens() -> None:
    store = RedisStore.open("redis://127.0.0.1:1/0")
    told = []
    for _ in range(5):
        with pytest.raises(FeatureStoreAway) as refusal:
            await store.read([b"ann"], [AGE], timeout=LONG_S)
        told.append(str(refusal.value))
    assert told[0] == "the feature store can't be read."
    assert "moment to recover" in told[-1]
    with pytest.raises(FeatureStoreAway, match="can't be written"):
        RedisWriter.open("redis://127.0.0.1:1/0").write([AGE], [b"ann"], {"age": np.zeros(1, np.float32)})
    await store.close()


def test_the_password_comes_from_a_file(folder: Path) -> None:
    secret = folder / "password"
    secret.write_text("hidden\n", encoding="utf-8")
    address = Address.parse(f"redis://store:6380/2?password_file={secret}")
    assert address == Address("store", 6380, 2, "hidden")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:hidden@store:6379/0", "name a password_file"),
        ("redis:store", "write redis://host:6379/0"),
        ("redis://store:6379/zero", "write redis://host:6379/0"),
        ("redis://store:6379/0?colour=red", "password_file=<path>"),
        ("redis://store:6379/0?password_file=/nowhere", "'/nowhere' can't be read"),
    ],
)
def test_a_wrong_url_is_refused_without_showing_a_password(url: str, told: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Address.parse(url)
    assert told in str(refusal.value)
    assert "hidden" not in str(refusal.value)
