"""The contract on a real Redis, in a container."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import redis

from serving.adapters.feature_store.redis import Address, RedisStore, RedisWriter
from serving.domain.errors import FeaturesNotFilled, FeatureStoreUnavailable, SettingsError
from serving.domain.ports import FeatureRows
from tests.platform.contract.feature_store_contract import AGE, LONG_S, FeatureStoreContract
from tests.platform.support import filling, redis_container
from tests.platform.support.bottleneck import fill_and_be_killed


@pytest.fixture
def url(address: str) -> str:
    """Return the URL of an empty Redis."""
    return f"redis://{address}/0"


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
        with self.unavailable(folder):
            yield self.reader(folder)

    @contextmanager
    def unavailable(self, folder: Path) -> Iterator[None]:
        with redis_container.frozen(self.container):
            yield


async def test_an_emptied_redis_is_not_filled_and_nobody_is_unknown(url: str) -> None:
    writer, store = RedisWriter.open(url), RedisStore.open(url)
    writer.write(FeatureRows([AGE], [b"ann"], {"age": np.array([31.0], np.float32)}, watermark="filled"))
    assert writer.watermark() == "filled"
    with redis.Redis.from_url(url) as client:
        client.flushall()
    assert writer.watermark() == ""
    with pytest.raises(FeaturesNotFilled):
        await store.read([b"ann"], [AGE], timeout=LONG_S)
    await store.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_writer_killed_halfway_changes_nothing(url: str, number: signal.Signals) -> None:
    writer, store = RedisWriter.open(url), RedisStore.open(url)
    filling.fill(writer, 1.0)
    await fill_and_be_killed(urlsplit(url).netloc, lambda address: f"redis://{address}/0", number)
    assert await filling.values(store) == {1.0}
    assert writer.watermark() == "1.0"
    filling.fill(writer, 3.0)
    assert await filling.values(store) == {3.0}
    with redis.Redis.from_url(url) as client:
        assert client.dbsize() == len(filling.KEYS) + 1
    await store.close()


async def test_without_a_server_the_store_is_unavailable_and_the_breaker_opens() -> None:
    store = RedisStore.open("redis://127.0.0.1:1/0")
    messages = []
    for _ in range(5):
        with pytest.raises(FeatureStoreUnavailable) as refusal:
            await store.read([b"ann"], [AGE], timeout=LONG_S)
        messages.append(str(refusal.value))
    assert messages[0] == "the feature store can't be read."
    assert "for a moment to let it recover" in messages[-1]
    with pytest.raises(FeatureStoreUnavailable, match="can't be written"):
        RedisWriter.open("redis://127.0.0.1:1/0").write(FeatureRows([AGE], [b"ann"], {"age": np.zeros(1, np.float32)}))
    await store.close()


def test_user_and_database_come_from_the_url_and_the_password_from_a_file(folder: Path) -> None:
    secret = folder / "password"
    secret.write_text("hidden\n", encoding="utf-8")
    address = Address.parse(f"redis://reader@store:6380/2?password_file={secret}")
    assert address == Address("store", 6380, 2, "reader", "hidden")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://:hidden@store:6379/0", "name a password_file"),
        ("redis://reader:hidden@store:6379/0", "name a password_file"),
        ("redis:store", "write redis://host:6379/0"),
        ("redis://store:6379/zero", "write redis://host:6379/0"),
        ("redis://store:6379/0?colour=red", "password_file=<path>"),
        ("redis://store:6379/0?password_file=/nowhere", "'/nowhere' can't be read"),
    ],
)
def test_a_wrong_url_is_refused_without_showing_a_password(url: str, message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Address.parse(url)
    assert message in str(refusal.value)
    assert "hidden" not in str(refusal.value)
