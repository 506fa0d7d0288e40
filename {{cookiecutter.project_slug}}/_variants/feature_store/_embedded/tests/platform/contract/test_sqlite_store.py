from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from serving.adapters.feature_store.sqlite import SqliteStore
from serving.domain.errors import FeaturesNotFilled, FeatureStoreUnavailable, SettingsError
from serving.domain.features import Feature
from serving.domain.ports import FeatureRows
from serving.domain.tensors import Datatype
from tests.platform.contract.feature_store_contract import AGE, LONG_S, FeatureStoreContract
from tests.platform.support import filling


def file(folder: Path) -> Path:
    return folder / "data" / "features.db"


def write(folder: Path, value: float) -> None:
    SqliteStore(file(folder)).write(FeatureRows([AGE], [b"ann"], {"age": np.array([value], np.float32)}))


async def read(store: SqliteStore, *keys: bytes) -> list[float]:
    values: list[float] = (await store.read(keys or [b"ann"], [AGE], timeout=LONG_S))["age"].values.tolist()
    return values


class TestSqliteStore(FeatureStoreContract):
    impatience_s = 0.0  # a read ends on its own, but not at once

    def reader(self, folder: Path) -> SqliteStore:
        return SqliteStore.open(f"sqlite:{file(folder)}")

    def writer(self, folder: Path) -> SqliteStore:
        return SqliteStore.open(f"sqlite:{file(folder)}")

    @contextmanager
    def stalled(self, folder: Path) -> Iterator[SqliteStore]:
        yield self.reader(folder)

    @contextmanager
    def unavailable(self, folder: Path) -> Iterator[None]:
        hidden = folder / "hidden"
        file(folder).rename(hidden)
        yield
        hidden.rename(file(folder))


async def test_an_empty_file_counts_as_not_filled(folder: Path) -> None:
    file(folder).parent.mkdir()
    file(folder).write_bytes(b"")
    with pytest.raises(FeaturesNotFilled):
        await read(SqliteStore(file(folder)))


@pytest.mark.parametrize("content", [b"this is no database" * 1000])
async def test_a_file_that_is_not_a_database_is_reported(folder: Path, content: bytes) -> None:
    file(folder).parent.mkdir()
    file(folder).write_bytes(content)
    with pytest.raises(FeatureStoreUnavailable, match="can't be read"):
        await read(SqliteStore(file(folder)))


async def test_a_feature_that_the_file_lacks_is_reported(folder: Path) -> None:
    write(folder, 1.0)
    store = SqliteStore(file(folder))
    with pytest.raises(FeatureStoreUnavailable, match="fill it with `make features`"):
        await store.read([b"ann"], [AGE, Feature("new")], timeout=LONG_S)
    assert await read(store) == [1.0]
    await store.close()


async def test_a_reader_switches_to_the_new_file(folder: Path) -> None:
    store = SqliteStore(file(folder))
    for value in (1.0, 2.0, 3.0):
        write(folder, value)
        assert await read(store) == [value]
    await store.close()


async def test_a_write_that_fails_leaves_the_store_as_it_was(folder: Path) -> None:
    write(folder, 1.0)
    before = file(folder).read_bytes()
    with pytest.raises(ValueError, match="shorter"):
        SqliteStore(file(folder)).write(FeatureRows([AGE], [b"ann", b"bob"], {"age": np.array([2.0], np.float32)}))
    assert file(folder).read_bytes() == before
    assert sorted(path.name for path in file(folder).parent.iterdir()) == [".features.db.lock", "features.db"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_writer_killed_halfway_changes_nothing_and_the_next_one_cleans_up(
    folder: Path, number: signal.Signals
) -> None:
    url = f"sqlite:{file(folder)}"
    store = SqliteStore.open(url)
    filling.fill(store, 1.0)
    process = await asyncio.create_subprocess_exec(
        *filling.command(url, "--halt"), env=filling.ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    async with asyncio.timeout(LONG_S):
        assert process.stdout is not None
        assert await process.stdout.readline() == filling.HALF
        process.send_signal(number)
        await process.communicate()
    assert process.returncode == -number
    assert (file(folder).parent / ".features.db.next").exists()
    assert await filling.values(store) == {1.0}
    assert store.watermark() == "1.0"
    filling.fill(store, 3.0)
    assert await filling.values(store) == {3.0}
    assert sorted(path.name for path in file(folder).parent.iterdir()) == [".features.db.lock", "features.db"]
    await store.close()


async def test_rows_of_a_killed_writer_never_reach_the_store(folder: Path) -> None:
    file(folder).parent.mkdir()
    (file(folder).parent / ".features.db.next").write_bytes(b"half of a database" * 1000)
    write(folder, 1.0)
    store = SqliteStore(file(folder))
    assert await read(store) == [1.0]
    await store.close()


@pytest.fixture
def read_only(folder: Path) -> Iterator[set[Path]]:
    """Fill a store and revoke the right to write; return the files."""
    write(folder, 1.0)
    parent = file(folder).parent
    parent.chmod(0o500)
    yield set(parent.iterdir())
    parent.chmod(0o700)


async def test_reading_creates_no_other_file(folder: Path, read_only: set[Path]) -> None:
    store = SqliteStore(file(folder))
    assert await read(store) == [1.0]
    assert set(file(folder).parent.iterdir()) == read_only
    await store.close()


async def test_more_entities_can_be_read_than_sqlite_allows_variables(folder: Path) -> None:
    write(folder, 1.0)
    store = SqliteStore(file(folder))
    keys = [b"%d" % number for number in range(300_000)]
    assert (await read(store, *keys, b"ann"))[-1] == 1.0
    await store.close()


def test_a_url_without_a_file_is_refused() -> None:
    with pytest.raises(SettingsError, match="feature store 'sqlite:' names no file; write sqlite:data/features"):
        SqliteStore.open("sqlite:")


def test_what_is_deleted_is_not_in_the_file(folder: Path) -> None:
    keys = [b"key-%d" % number for number in range(1000)]
    city = Feature("city", datatype=Datatype.BYTES)
    cities = np.array([b"city of " + key for key in keys], object)
    store = SqliteStore(file(folder))
    store.write(FeatureRows([city], keys, {"city": cities}))
    assert b"city of key-777" in file(folder).read_bytes()
    assert store.delete([b"key-777"]) == 1
    content = file(folder).read_bytes()
    assert b"key-777" not in content
    assert b"city of key-778" in content


def test_nothing_is_deleted_from_an_empty_file(folder: Path) -> None:
    file(folder).parent.mkdir()
    file(folder).write_bytes(b"")
    assert SqliteStore(file(folder)).delete([b"ann"]) == 0


@pytest.mark.parametrize(
    ("act", "done"),
    [
        (lambda store: store.delete([b"ann"]), "written"),
        (lambda store: store.watermark(), "read"),
        (lambda store: store.write(FeatureRows([AGE], [b"ann"], {"age": np.zeros(1, np.float32)})), "written"),
    ],
)
def test_a_file_that_is_no_database_is_named_with_the_reason(
    folder: Path, act: Callable[[SqliteStore], object], done: str
) -> None:
    path = folder / "features.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(FeatureStoreUnavailable) as failure:
        act(SqliteStore(path))
    assert str(failure.value) == f"the feature store {path} can't be {done} (file is not a database)."
    assert path.read_bytes() == b"no database" * 100
    assert [left.name for left in folder.iterdir() if left.name.endswith(".next")] == []
