"""The contract on Feast, with SQLite and with a real Redis in a container."""

from __future__ import annotations

import asyncio
import runpy
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import redis
import yaml

from model.features import FEATURES
from serving.adapters.feature_store import feast
from serving.adapters.feature_store.feast import FeastStore, open_feast
from serving.adapters.feature_store.feast_definitions import VIEW
from serving.adapters.feature_store.feast_writer import FeastWriter
from serving.domain.errors import FeaturesNotFilled, FeatureStoreUnavailable, SettingsError
from serving.domain.ports import FeatureRows
from tests.platform.contract.feature_store_contract import AGE, LONG_S, FeatureStoreContract
from tests.platform.support import filling, redis_container
from tests.platform.support.bottleneck import fill_and_be_killed

DEFINITIONS = """\
from serving.adapters.feature_store.feast_definitions import entity_of
from serving.domain.features import Entity

ENTITY = entity_of(Entity("person"))
"""
HERE = Path(__file__).resolve().parents[3] / "config" / "feature_repo"


def feature_repo(folder: Path, name: str, **online_store: object) -> str:
    """Write a feature repo like the one in config/ with other paths; return its URL."""
    configuration = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    configuration["registry"]["path"] = "data/registry.db"
    configuration["online_store"] |= online_store
    (folder / name).write_text(yaml.safe_dump(configuration), encoding="utf-8")
    (folder / "definitions.py").write_text(DEFINITIONS, encoding="utf-8")
    return f"feast:{folder / name}"


class TestFeastOnSqlite(FeatureStoreContract):
    def url(self, folder: Path) -> str:
        return feature_repo(folder, "feature_store.yaml", path="data/online.db")

    def reader(self, folder: Path) -> FeastStore:
        return FeastStore.open(self.url(folder))

    def writer(self, folder: Path) -> FeastWriter:
        return FeastWriter.open(self.url(folder))

    @contextmanager
    def stalled(self, folder: Path) -> Iterator[FeastStore]:
        with self.unavailable(folder):
            yield self.reader(folder)

    @contextmanager
    def unavailable(self, folder: Path) -> Iterator[None]:
        with closing(sqlite3.connect(folder / "data" / "online.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield


def on_redis(folder: Path, address: str) -> str:
    return feature_repo(
        folder, "feature_store.redis.yaml", connection_string=address, username="", password_file="", socket_timeout=1.0
    )


class TestFeastOnRedis(FeatureStoreContract):
    @pytest.fixture(autouse=True)
    def _on(self, container: str, address: str) -> None:
        self.container, self.address = container, address

    def reader(self, folder: Path) -> FeastStore:
        return FeastStore.open(on_redis(folder, self.address))

    def writer(self, folder: Path) -> FeastWriter:
        return FeastWriter.open(on_redis(folder, self.address))

    @contextmanager
    def stalled(self, folder: Path) -> Iterator[FeastStore]:
        with self.unavailable(folder):
            yield self.reader(folder)

    @contextmanager
    def unavailable(self, folder: Path) -> Iterator[None]:
        with redis_container.frozen(self.container):
            yield


def write(url: str, age: float, watermark: str = "") -> None:
    FeastWriter.open(url).write(FeatureRows([AGE], [b"ann"], {"age": np.array([age], np.float32)}, watermark=watermark))


async def test_an_emptied_redis_is_not_filled_and_nobody_is_unknown(folder: Path, address: str) -> None:
    url = on_redis(folder, address)
    write(url, 31.0, watermark="filled")
    with redis.Redis.from_url(f"redis://{address}") as client:
        client.flushall()
    assert FeastWriter.open(url).watermark() == ""
    store = FeastStore.open(url)
    with pytest.raises(FeaturesNotFilled):
        await store.read([b"ann"], [AGE], timeout=LONG_S)
    write(url, 32.0)
    assert (await store.read([b"ann"], [AGE], timeout=LONG_S))["age"].values.tolist() == [32.0]
    await store.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_writer_killed_halfway_changes_nothing(folder: Path, address: str, number: signal.Signals) -> None:
    url = on_redis(folder, address)
    writer, store = FeastWriter.open(url), FeastStore.open(url)
    filling.fill(writer, 1.0)
    (folder / "other").mkdir()
    await fill_and_be_killed(address, lambda through: on_redis(folder / "other", through), number)
    assert await filling.values(store) == {1.0}
    assert writer.watermark() == "1.0"
    filling.fill(writer, 3.0)
    assert await filling.values(store) == {3.0}
    await store.close()


async def test_without_a_server_the_store_is_unavailable_and_the_breaker_opens(folder: Path, address: str) -> None:
    write(on_redis(folder, address), 31.0)
    url = on_redis(folder, "127.0.0.1:1")
    store = FeastStore.open(url)
    messages = []
    for _ in range(5):
        with pytest.raises(FeatureStoreUnavailable) as refusal:
            await store.read([b"ann"], [AGE], timeout=LONG_S)
        messages.append(str(refusal.value))
    assert messages[0] == "the feature store can't be read; fill it with `make features`."
    assert "for a moment to let it recover" in messages[-1]
    with pytest.raises(FeatureStoreUnavailable, match="can't be written"):
        write(url, 31.0)
    await store.close()


async def test_a_redis_that_closes_the_connection_is_called_once(folder: Path, address: str) -> None:
    write(on_redis(folder, address), 31.0)
    asked = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = FeastStore.open(on_redis(folder, f"127.0.0.1:{port}"))
        with pytest.raises(FeatureStoreUnavailable):
            await store.read([b"ann"], [AGE], timeout=LONG_S)
    assert len(asked) == 1
    await store.close()


async def test_reads_beyond_the_queue_are_refused_and_the_others_answered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feast, "_THREADS", 1)
    monkeypatch.setattr(feast, "_WAITING", 1)
    case = TestFeastOnSqlite()
    write(case.url(folder), 31.0)
    store = case.reader(folder)
    for _ in range(2):
        with case.unavailable(folder):
            waiting = [asyncio.create_task(store.read([b"ann"], [AGE], timeout=LONG_S)) for _ in range(2)]
            await asyncio.sleep(0)  # both wait in the queue
            with pytest.raises(FeatureStoreUnavailable, match="more reads waiting than it can answer"):
                await store.read([b"ann"], [AGE], timeout=LONG_S)
        assert [read["age"].values.tolist() for read in await asyncio.gather(*waiting)] == [[31.0]] * 2
    await store.close()


def test_the_registry_matches_the_definitions(folder: Path) -> None:
    url = feature_repo(folder, "feature_store.yaml", path="data/online.db")
    definitions = (HERE / "definitions.py").read_text(encoding="utf-8")
    (folder / "definitions.py").write_text(definitions, encoding="utf-8")
    nothing = {feature.name: np.empty((0, *feature.shape), feature.datatype.dtype) for feature in FEATURES.static}
    FeastWriter.open(url).write(FeatureRows(FEATURES.static, [], nothing))
    feast = open_feast(folder / "feature_store.yaml")
    said = runpy.run_path(str(HERE / "definitions.py"))
    assert feast.get_feature_view(VIEW).schema == said["VIEW"].schema
    assert feast.get_entity(FEATURES.entity.name) == said["ENTITY"]
    assert {view.name for view in feast.list_feature_views()} == {said["VIEW"].name, said["MATERIALIZATION"].name}


def test_a_registry_read_during_a_write_is_complete(folder: Path) -> None:
    url = feature_repo(folder, "feature_store.yaml", path="data/online.db")
    write(url, 31.0)
    registry = folder / "data" / "registry.db"
    before = registry.read_bytes()
    with registry.open("rb") as reader:
        write(url, 32.0)
        assert reader.read() == before
    assert registry.read_bytes() != before
    assert [path.name for path in registry.parent.iterdir() if path.name.startswith(".")] == [".registry.db.lock"]


async def test_a_store_is_read_as_soon_as_it_is_filled(folder: Path) -> None:
    url = f"feast:{folder / 'feature_store.yaml'}"
    store = FeastStore.open(url)

    async def is_unavailable() -> None:
        with pytest.raises(FeatureStoreUnavailable, match="fill it with `make features`"):
            await store.read([b"ann"], [AGE], timeout=LONG_S)

    await is_unavailable()
    with pytest.raises(SettingsError, match="feature_store.yaml' does not exist"):
        write(url, 31.0)
    assert feature_repo(folder, "feature_store.yaml", path="data/online.db") == url
    await is_unavailable()
    assert not (folder / "data").exists()
    write(url, 31.0)
    assert (await store.read([b"ann"], [AGE], timeout=LONG_S))["age"].values.tolist() == [31.0]
    await store.close()


async def test_a_damaged_registry_makes_the_store_unavailable(folder: Path) -> None:
    url = feature_repo(folder, "feature_store.yaml", path="data/online.db")
    write(url, 31.0)
    store, registry = FeastStore.open(url), folder / "data" / "registry.db"
    whole = registry.read_bytes()
    registry.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FeatureStoreUnavailable, match="fill it with `make features`"):
        await store.read([b"ann"], [AGE], timeout=LONG_S)
    registry.write_bytes(whole)
    assert (await store.read([b"ann"], [AGE], timeout=LONG_S))["age"].values.tolist() == [31.0]
    await store.close()


async def test_a_registry_damaged_while_serving_is_reported_and_the_one_read_before_stays_in_use(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feast, "_REFRESH_S", 0.01)
    warned = threading.Event()
    monkeypatch.setattr(feast.log, "warning", lambda *_: warned.set())
    url = feature_repo(folder, "feature_store.yaml", path="data/online.db")
    write(url, 31.0)
    store = FeastStore.open(url)
    await store.read([b"ann"], [AGE], timeout=LONG_S)
    damaged = folder / "data" / "damaged"
    damaged.write_bytes(b"\xff" * 100)
    damaged.replace(folder / "data" / "registry.db")  # at once: an empty file is a valid registry
    assert await asyncio.to_thread(warned.wait, LONG_S)
    assert (await store.read([b"ann"], [AGE], timeout=LONG_S))["age"].values.tolist() == [31.0]
    await store.close()


def test_a_url_without_a_file_is_refused() -> None:
    with pytest.raises(SettingsError, match="write feast:config/feature_repo/feature_store.yaml"):
        FeastStore.open("feast:")
