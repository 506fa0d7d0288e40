"""The contract on a real Redis, in a container."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import redis

from serving.adapters.feature_store.redis import Address, RedisStore
from serving.adapters.feature_store.redis_writer import RENEWED_FOR_S, RedisWriter
from serving.domain.errors import FeaturesNotFilled, FeaturesOutdated, FeatureStoreUnavailable, SettingsError
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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_large_write_killed_halfway_changes_nothing_and_the_next_one_cleans_up(
    url: str, number: signal.Signals
) -> None:
    writer, store = RedisWriter.open(url), RedisStore.open(url)
    filling.fill(writer, 1.0, filling.MANY)
    await fill_and_be_killed(urlsplit(url).netloc, lambda address: f"redis://{address}/0", number, "--many")
    assert await filling.values(store, filling.MANY) == {1.0}
    assert writer.watermark() == "1.0"
    with pytest.raises(FeatureStoreUnavailable, match="another run fills the feature store"):
        filling.fill(writer, 3.0, filling.MANY)
    with redis.Redis.from_url(url) as client:
        assert 0 < client.ttl("features-next") <= RENEWED_FOR_S
        client.delete("features-next")  # a minute has passed
        client.sadd("features-deleted", filling.MANY[0])
        left_over = []
        again = _Interrupted(filling.MANY, lambda: left_over.extend(client.keys("features:2:*")))
        filling.fill(writer, 3.0, again)
        assert left_over == []
        assert await filling.values(store, filling.MANY) == {3.0}
        assert client.dbsize() == len(filling.MANY) + len(["features-present", "features-last"])
    await store.close()


class _Interrupted(list[bytes]):
    """Entities that call a function when half of them are written."""

    def __init__(self, entities: Sequence[bytes], call: Callable[[], object]) -> None:
        super().__init__(entities)
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        yield from self[: len(self) // 2]
        self._call()
        yield from self[len(self) // 2 :]


async def ages(store: RedisStore, *keys: bytes) -> list[float | None]:
    column = (await store.read(keys, [AGE], timeout=LONG_S))["age"]
    return [value if there else None for value, there in zip(column.values.tolist(), column.present, strict=True)]


def aged(entities: Sequence[bytes], age: float, watermark: str = "") -> FeatureRows:
    return FeatureRows([AGE], entities, {"age": np.full(len(entities), age, np.float32)}, watermark=watermark)


@pytest.mark.parametrize("replace", [False, True])
async def test_rows_pushed_during_a_large_write_are_read_at_once_and_after_it(url: str, replace: bool) -> None:
    writer, store = RedisWriter.open(url), RedisStore.open(url)
    writer.write(FeatureRows([filling.FILLED], [b"ann"], {"filled": np.ones(1, np.float32)}, watermark="filled"))
    during = []

    def push() -> None:
        RedisWriter.open(url).write(aged([b"ann", b"new"], 7.0))
        with redis.Redis.from_url(url) as client:
            during.extend(client.hkeys("features:0:ann"))

    writer.write(aged(_Interrupted(filling.MANY, push), 1.0, "large"), replace=replace)
    assert during == [b"filled", b"age"]
    assert await ages(store, b"ann", b"new", filling.MANY[0], filling.MANY[-1]) == [7.0, 7.0, 1.0, 1.0]
    assert (await store.read([b"ann"], [filling.FILLED], timeout=LONG_S))["filled"].present.all()
    await store.close()


@pytest.mark.parametrize("replace", [False, True])
async def test_an_entity_deleted_during_a_large_write_does_not_come_back(url: str, replace: bool) -> None:
    writer, store = RedisWriter.open(url), RedisStore.open(url)
    first, last, again = filling.MANY[0], filling.MANY[-1], filling.MANY[1]
    filling.fill(writer, 1.0, [first, last, again])
    deleted = []

    def delete() -> None:
        other = RedisWriter.open(url)
        deleted.append(other.delete([first, last, again]))
        other.write(aged([again], 7.0))

    writer.write(aged(_Interrupted(filling.MANY, delete), 1.0), replace=replace)
    assert deleted == [3]
    assert await ages(store, first, last, again, filling.MANY[2]) == [None, None, 7.0, 1.0]
    writer.write(aged(filling.MANY, 2.0))
    assert await ages(store, first, last) == [2.0, 2.0]
    await store.close()


async def test_a_large_write_that_was_overtaken_leaves_nothing(url: str) -> None:
    writer, store = RedisWriter.open(url), RedisStore.open(url)
    filling.fill(writer, 1.0, filling.MANY)

    def overtake() -> None:
        with redis.Redis.from_url(url) as client:
            client.delete("features-next")  # it stood still for a minute
        filling.fill(RedisWriter.open(url), 2.0, filling.MANY)

    rows = FeatureRows(
        [filling.FILLED],
        _Interrupted(filling.MANY, overtake),
        {"filled": np.full(len(filling.MANY), 3.0, np.float32)},
        watermark="3.0",
    )
    with pytest.raises(FeatureStoreUnavailable, match="another run fills the feature store"):
        writer.write(rows)
    assert await filling.values(store, filling.MANY) == {2.0}
    assert writer.watermark() == "2.0"
    with redis.Redis.from_url(url) as client:
        assert client.dbsize() == len(filling.MANY) + len(["features-present", "features-last"])
    await store.close()


async def test_a_full_redis_says_what_to_raise_and_keeps_its_rows(url: str) -> None:
    writer, store = RedisWriter.open(url), RedisStore.open(url)
    filling.fill(writer, 1.0, filling.MANY)
    with redis.Redis.from_url(url) as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 100_000)
        try:
            with pytest.raises(FeatureStoreUnavailable, match="raise maxmemory in config/redis.conf"):
                filling.fill(writer, 2.0, filling.MANY)
        finally:
            client.config_set("maxmemory", 0)
        assert not client.exists("features-next")
        assert client.dbsize() == len(filling.MANY) + len(["features-present", "features-last"])
    assert await filling.values(store, filling.MANY) == {1.0}
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


LOCAL = "write redis://host:6379/0."
WHOLE = "write redis://user@host:6379/0?password_file=<path>, without user and password_file if it asks for none."


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis://store:6379/zero", f"feature store 'redis://store:6379/zero': {LOCAL}"),
        ("redis://store:port/0", f"feature store 'redis://store:port/0': {LOCAL}"),
        ("redis://store?colour=red", f"feature store 'redis://store?colour=red': {WHOLE}"),
        ("redis:///0", f"feature store 'redis:///0': {WHOLE}"),
        (
            "redis://:hidden@store",
            "feature store: the URL holds a password, which logs would show; name a password_file.",
        ),
        (
            "redis://store?password_file=/nowhere",
            "feature store: password_file '/nowhere' can't be read (No such file or directory).",
        ),
    ],
)
def test_a_refusal_of_a_url_says_what_to_write(url: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Address.parse(url)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("url", ["redis://store", "redis://store/", "redis://store:6379/0"])
def test_port_and_database_need_not_be_written(url: str) -> None:
    assert Address.parse(url) == Address("store", 6379, 0, None, None)


@pytest.mark.parametrize(
    ("act", "done"),
    [
        (lambda writer: writer.write(FeatureRows([AGE], [b"ann"], {"age": np.zeros(1, np.float32)})), "written"),
        (lambda writer: writer.delete([b"ann"]), "written"),
        (lambda writer: writer.watermark(), "read"),
    ],
)
def test_a_writer_without_a_server_says_what_failed(act: Callable[[RedisWriter], object], done: str) -> None:
    with pytest.raises(FeatureStoreUnavailable) as failure:
        act(RedisWriter.open("redis://127.0.0.1:1/0"))
    assert str(failure.value) == f"the feature store can't be {done} (ConnectionError)."


async def test_a_value_of_another_form_is_named_with_both(url: str) -> None:
    RedisWriter.open(url).write(FeatureRows([AGE], [b"ann"], {"age": np.zeros(1, np.float32)}))
    store = RedisStore.open(url)
    wide = replace(AGE, shape=(2,))
    with pytest.raises(FeaturesOutdated) as refusal:
        await store.read([b"nobody", b"ann"], [wide], timeout=LONG_S)
    assert str(refusal.value) == str(FeaturesOutdated.of("age", AGE.form, wide.form))
    with redis.Redis.from_url(url) as client:
        client.hset("features:0:ann", "age", b"12345678\xff:")  # of no version of this repo
    with pytest.raises(FeaturesOutdated) as refusal:
        await store.read([b"ann"], [AGE], timeout=LONG_S)
    assert str(refusal.value) == str(FeaturesOutdated.of("age", "\\xff", AGE.form))
    await store.close()


def test_nothing_is_asked_of_redis_to_delete_nobody() -> None:
    assert RedisWriter.open("redis://127.0.0.1:1/0").delete([]) == 0


def test_a_large_write_holds_its_place_for_a_minute_only(url: str) -> None:
    left = []

    def look() -> None:
        with redis.Redis.from_url(url) as client:
            left.append(client.ttl("features-next"))

    RedisWriter.open(url).write(aged(_Interrupted(filling.MANY, look), 1.0))
    assert 0 < left[0] <= RENEWED_FOR_S


async def test_a_read_is_tried_once() -> None:
    tried = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.append(writer)
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        store = RedisStore.open(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
        with pytest.raises(FeatureStoreUnavailable):
            await store.read([b"ann"], [AGE], timeout=LONG_S)
        await store.close()
    assert len(tried) == 1
