"""The contract of every feature store; an adapter's test module subclasses it."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.domain.errors import FeaturesNotFilled, FeaturesOutdated, FeatureStoreUnavailable
from serving.domain.features import Entity, Feature, FeatureSet, Missing
from serving.domain.ports import Column, FeatureRows, FeatureStore, FeatureWriter
from serving.domain.tensors import Datatype

LONG_S = 60.0

AGE = Feature("age")
CITY = Feature("city", datatype=Datatype.BYTES)
CURVE = Feature("curve", shape=(2, 3))
NUMBERS = tuple(Feature(d.value.lower(), datatype=d) for d in Datatype if not d.holds_bytes)
ALL = (AGE, CITY, CURVE)


class FeatureReaderContract(ABC):
    """Tests for any store, even one that supplies nothing."""

    @abstractmethod
    def reader(self, folder: Path) -> FeatureStore:
        """Open the store in this folder as the server does."""

    async def test_it_supplies_declared_static_features_only(self, folder: Path) -> None:
        store = self.reader(folder)
        assert set(store.supplies(FeatureSet(Entity("key"), ALL, (Feature("value"),)))) <= set(ALL)
        assert store.supplies(FeatureSet(Entity("key"), (), (Feature("value"),))) == ()
        await store.close()

    async def test_closing_twice_is_fine(self, folder: Path) -> None:
        store = self.reader(folder)
        await store.close()
        await store.close()


class FeatureStoreContract(FeatureReaderContract):
    """Tests for a store that can be filled."""

    impatience_s = 0.05
    """A timeout that is over before a stalled read of 1,000 entities is."""

    @abstractmethod
    def writer(self, folder: Path) -> FeatureWriter:
        """Open the same store as batch jobs do."""

    @abstractmethod
    def stalled(self, folder: Path) -> AbstractContextManager[FeatureStore]:
        """Yield a reader whose reads take longer than `impatience_s` while the block runs."""

    @abstractmethod
    def unavailable(self, folder: Path) -> AbstractContextManager[None]:
        """Make the store unreadable while the block runs; its content survives."""

    @pytest.fixture
    async def filled(self, folder: Path) -> FeatureStore:
        """Return a reader of a store with two entities."""
        columns = {
            "age": np.array([31.0, 0.0], np.float32),
            "city": np.array([b"Oslo", b""], object),
            "curve": np.arange(12, dtype=np.float32).reshape(2, 2, 3),
        }
        self.writer(folder).write(FeatureRows(ALL, [b"ann", b"bob"], columns, watermark="filled"))
        return self.reader(folder)

    async def test_it_supplies_every_static_feature(self, folder: Path) -> None:
        assert self.reader(folder).supplies(FeatureSet(Entity("key"), ALL, (Feature("value"),))) == ALL

    async def test_written_values_are_read_back(self, filled: FeatureStore) -> None:
        columns = await filled.read([b"ann", b"bob"], ALL, timeout=LONG_S)
        assert sorted(columns) == ["age", "city", "curve"]
        for feature in ALL:
            column = columns[feature.name]
            assert column.values.dtype == feature.datatype.dtype
            assert column.values.shape == (2, *feature.shape)
            assert column.present.tolist() == [True, True]
        assert columns["age"].values.tolist() == [31.0, 0.0]
        assert columns["city"].values.tolist() == [b"Oslo", b""]
        assert columns["curve"].values.ravel().tolist() == list(range(12))
        await filled.close()

    async def test_rows_come_in_the_requested_order_repeated_keys_included(self, filled: FeatureStore) -> None:
        column = await self.ages(filled, b"bob", b"ann", b"bob", b"bob", b"ann")
        assert column.values.tolist() == [0.0, 31.0, 0.0, 0.0, 31.0]
        await filled.close()

    async def test_an_unknown_entity_is_absent_at_any_position(self, filled: FeatureStore) -> None:
        column = await self.ages(filled, b"", b"ann", b"ANN", b"ann ", b"ann\0")
        assert column.present.tolist() == [False, True, False, False, False]
        assert column.values[1] == 31.0
        assert (await self.ages(filled, b"", b"")).present.tolist() == [False, False]
        await filled.close()

    async def test_only_requested_features_are_read(self, filled: FeatureStore) -> None:
        assert sorted(await filled.read([b"ann"], [CITY], timeout=LONG_S)) == ["city"]
        await filled.close()

    async def test_a_value_that_was_never_written_is_missing_not_zero(self, folder: Path) -> None:
        writer = self.writer(folder)
        writer.write(FeatureRows([AGE], [b"ann"], {"age": np.array([0.0], np.float32)}))
        writer.write(FeatureRows([CURVE], [b"bob"], {"curve": np.zeros((1, 2, 3), np.float32)}))
        store = self.reader(folder)
        columns = await store.read([b"ann", b"bob"], [AGE, CURVE], timeout=LONG_S)
        assert columns["age"].present.tolist() == [True, False]
        assert columns["curve"].present.tolist() == [False, True]
        await store.close()

    async def test_a_second_write_replaces_its_values_and_keeps_the_others(
        self, filled: FeatureStore, folder: Path
    ) -> None:
        await self.ages(filled, b"ann")
        self.writer(folder).write(FeatureRows([AGE], [b"ann", b"cid"], {"age": np.array([32.0, 5.0], np.float32)}))
        columns = await filled.read([b"ann", b"bob", b"cid"], [AGE, CITY], timeout=LONG_S)
        assert columns["age"].values.tolist() == [32.0, 0.0, 5.0]
        assert columns["city"].present.tolist() == [True, True, False]
        assert columns["city"].values[0] == b"Oslo"
        await filled.close()

    async def test_a_write_that_replaces_all_removes_every_other_entity(
        self, filled: FeatureStore, folder: Path
    ) -> None:
        ages = {"age": np.array([5.0, 32.0], np.float32)}
        rows = FeatureRows([AGE], [b"cid", b"ann"], ages, watermark="again")
        self.writer(folder).write(rows, replace=True)
        assert (await self.ages(filled, b"cid", b"ann", b"bob")).present.tolist() == [True, True, False]
        assert self.writer(folder).watermark() == "again"
        await filled.close()

    async def test_a_write_of_thousands_of_rows_keeps_other_entities_and_other_features(
        self, filled: FeatureStore, folder: Path
    ) -> None:
        keys = [b"ann", *(b"key-%d" % number for number in range(2500))]
        ages = {"age": np.arange(len(keys), dtype=np.float32)}
        await self.ages(filled, b"ann")
        self.writer(folder).write(FeatureRows([AGE], keys, ages, watermark="large"))
        columns = await filled.read([*keys, b"bob"], ALL, timeout=LONG_S)
        assert columns["age"].values.tolist() == [*range(len(keys)), 0.0]
        assert columns["city"].values[[0, -1]].tolist() == [b"Oslo", b""]
        assert int(columns["city"].present.sum()) == 2
        assert self.writer(folder).watermark() == "large"
        self.writer(folder).write(FeatureRows([AGE], keys, ages))
        assert self.writer(folder).watermark() == "large"
        await filled.close()

    @pytest.mark.parametrize("feature", NUMBERS, ids=lambda feature: str(feature.name))
    async def test_extreme_numbers_are_stored_exactly(self, folder: Path, feature: Feature) -> None:
        dtype = feature.datatype.dtype
        if dtype.kind == "b":
            extremes: list[Any] = [False, True]
        else:
            limits = np.finfo(dtype) if feature.datatype.is_float else np.iinfo(dtype)
            extremes = [limits.min, limits.max]
        values = np.array(extremes, dtype)
        self.writer(folder).write(FeatureRows([feature], [b"least", b"most"], {feature.name: values}))
        store = self.reader(folder)
        column = (await store.read([b"least", b"most"], [feature], timeout=LONG_S))[feature.name]
        assert column.values.dtype == dtype
        np.testing.assert_array_equal(column.values, values)
        await store.close()

    async def test_keys_may_be_any_bytes(self, folder: Path) -> None:
        keys = [b"\xff\xfe", b"\0", b"a b", b"'; drop table x; --", b"*", b"%", b"x" * 256, "Zoë".encode(), b"1", b"01"]
        self.writer(folder).write(FeatureRows([AGE], keys, {"age": np.arange(len(keys), dtype=np.float32)}))
        store = self.reader(folder)
        column = await self.ages(store, *keys)
        assert column.values.tolist() == list(range(len(keys)))
        assert column.present.all()
        await store.close()

    @pytest.mark.parametrize("datatype", [Datatype.BYTES, Datatype.TEXT])
    async def test_values_may_be_any_bytes(self, folder: Path, datatype: Datatype) -> None:
        city = replace(CITY, datatype=datatype)
        values = np.array([b"\xff\xfe", b"a\0b", b"\0", b"", b"7", "Zoë".encode()], object)
        keys = [b"%d" % number for number in range(len(values))]
        self.writer(folder).write(FeatureRows([city], keys, {"city": values}))
        store = self.reader(folder)
        column = (await store.read(keys, [city], timeout=LONG_S))["city"]
        assert column.values.tolist() == values.tolist()
        await store.close()

    async def test_nan_is_read_as_nan_or_as_missing(self, folder: Path) -> None:
        """SQLite has no NaN: a feature that allows NaN declares `missing=Missing.NAN`, so both mean the same."""
        dose = Feature("dose", allow_nan=True, missing=Missing.NAN)
        self.writer(folder).write(FeatureRows([dose], [b"a", b"b"], {"dose": np.array([np.nan, 1.5], np.float32)}))
        store = self.reader(folder)
        column = (await store.read([b"a", b"b"], [dose], timeout=LONG_S))["dose"]
        assert not column.present[0] or np.isnan(column.values[0])
        assert (column.present[1], column.values[1]) == (True, 1.5)
        await store.close()

    async def test_a_thousand_entities_are_read_at_once(self, folder: Path) -> None:
        keys = [b"key-%d" % number for number in range(1000)]
        self.writer(folder).write(FeatureRows([AGE], keys, {"age": np.arange(1000, dtype=np.float32)}))
        store = self.reader(folder)
        turned = keys[::-1]
        assert (await self.ages(store, *turned)).values.tolist() == list(range(1000))[::-1]
        await store.close()

    async def test_concurrent_reads_do_not_mix(self, filled: FeatureStore) -> None:
        columns = await asyncio.gather(*(self.ages(filled, key) for key in [b"ann", b"bob", b"cid"] * 20))
        assert [column.present[0] for column in columns] == [True, True, False] * 20
        assert [column.values[0] for column in columns[::3]] == [31.0] * 20
        await filled.close()

    async def test_a_read_sees_a_whole_write_or_none_of_it(self, folder: Path) -> None:
        keys = [b"key-%d" % number for number in range(200)]
        twin = Feature("twin")
        writer, store = self.writer(folder), self.reader(folder)

        def write(value: float) -> None:
            column = np.full(len(keys), value, np.float32)
            writer.write(FeatureRows([AGE, twin], keys, {"age": column, "twin": column}))

        write(0.0)
        seen = {0.0}
        stop = threading.Event()

        def keep_writing() -> None:
            value = 0.0
            while not stop.is_set():
                value += 1.0
                write(value)

        writing = asyncio.create_task(asyncio.to_thread(keep_writing))
        try:
            async with asyncio.timeout(LONG_S):
                while len(seen) < 5:
                    await asyncio.sleep(0)  # the store itself may never yield
                    columns = await store.read(keys, [AGE, twin], timeout=LONG_S)
                    values = {*columns["age"].values.tolist(), *columns["twin"].values.tolist()}
                    assert columns["age"].present.all()
                    assert len(values) == 1
                    seen |= values
        finally:
            stop.set()
            await writing
            await store.close()

    async def test_one_of_two_concurrent_writers_wins_completely(self, folder: Path) -> None:
        keys = [b"key-%d" % number for number in range(200)]
        store = self.reader(folder)
        together = threading.Barrier(2, timeout=LONG_S)

        def write(value: float) -> None:
            writer = self.writer(folder)
            for _ in range(10):
                together.wait()
                ages = {"age": np.full(len(keys), value, np.float32)}
                writer.write(FeatureRows([AGE], keys, ages, watermark=str(value)))

        await asyncio.gather(*(asyncio.to_thread(write, value) for value in (1.0, 2.0)))
        column = await self.ages(store, *keys)
        assert column.present.all()
        assert {str(value) for value in column.values.tolist()} == {self.writer(folder).watermark()}
        await store.close()

    async def test_a_read_that_takes_too_long_is_abandoned_and_reported(self, folder: Path) -> None:
        keys = [b"key-%d" % number for number in range(1000)]
        self.writer(folder).write(FeatureRows([AGE], keys, {"age": np.zeros(1000, np.float32)}))
        message = f"did not answer within {self.impatience_s:.3f} s"
        with self.stalled(folder) as store, pytest.raises(FeatureStoreUnavailable, match=message):
            await store.read(keys, [AGE], timeout=self.impatience_s)
        await store.close()

    async def test_an_unavailable_store_is_reported_and_read_again_once_it_is_back(
        self, filled: FeatureStore, folder: Path
    ) -> None:
        await self.ages(filled, b"ann")
        with self.unavailable(folder), pytest.raises(FeatureStoreUnavailable) as refusal:
            await self.ages(filled, b"ann")
        assert str(refusal.value).isprintable()
        assert (await self.ages(filled, b"ann")).values.tolist() == [31.0]
        await filled.close()

    async def ages(self, store: FeatureStore, *keys: bytes) -> Column:
        """Read one feature."""
        return (await store.read(keys, [AGE], timeout=LONG_S))["age"]

    async def test_values_come_with_their_event_time(self, folder: Path) -> None:
        writer, store = self.writer(folder), self.reader(folder)
        ages = {"age": np.array([31.0, 0.0], np.float32)}
        writer.write(FeatureRows([AGE], [b"ann", b"bob"], ages, np.array([1_000_000_000, 2_000_000_000])))
        assert (await self.ages(store, b"bob", b"cid", b"ann")).times.tolist() == [2_000_000_000, 0, 1_000_000_000]
        await store.close()

    async def test_a_value_written_without_an_event_time_has_none(self, filled: FeatureStore) -> None:
        assert (await self.ages(filled, b"ann", b"bob")).times.tolist() == [0, 0]
        await filled.close()

    async def test_the_last_write_wins_whatever_its_event_time(self, folder: Path) -> None:
        writer, store = self.writer(folder), self.reader(folder)
        for age, date in [(31.0, 2_000_000_000), (32.0, 2_000_000_000), (33.0, 1_000_000_000)]:
            writer.write(FeatureRows([AGE], [b"ann"], {"age": np.array([age], np.float32)}, np.array([date])))
            column = await self.ages(store, b"ann")
            assert (column.values.tolist(), column.times.tolist()) == ([age], [date])
        await store.close()

    def test_a_watermark_is_kept_until_the_next_one(self, folder: Path) -> None:
        writer = self.writer(folder)
        assert writer.watermark() == ""
        messages = []
        for watermark in ("first", "", "second"):
            writer.write(FeatureRows([AGE], [b"ann"], {"age": np.zeros(1, np.float32)}, watermark=watermark))
            messages.append(self.writer(folder).watermark())
        assert messages == ["first", "first", "second"]

    async def test_a_store_that_was_never_filled_knows_of_no_unknown_entity(self, folder: Path) -> None:
        store = self.reader(folder)
        for keys in ([b"ann"], [b"ann", b"bob"]):
            with pytest.raises(FeaturesNotFilled, match="holds no features; fill it with `make features`"):
                await store.read(keys, [AGE], timeout=LONG_S)
        age = {"age": np.array([1.0], np.float32)}
        self.writer(folder).write(FeatureRows([AGE], [b"ann"], age))  # a push does not fill it
        assert (await self.ages(store, b"ann")).values.tolist() == [1.0]
        with pytest.raises(FeaturesNotFilled):
            await self.ages(store, b"bob")
        self.writer(folder).write(FeatureRows([AGE], [b"ann"], age, watermark="filled"))
        assert (await self.ages(store, b"bob", b"ann")).present.tolist() == [False, True]
        assert (await self.ages(store, b"bob")).present.tolist() == [False]
        await store.close()

    async def test_a_deleted_entity_is_unknown_and_the_others_stay(self, filled: FeatureStore, folder: Path) -> None:
        writer = self.writer(folder)
        assert writer.delete([b"bob", b"nobody"]) == 1
        columns = await filled.read([b"bob", b"ann"], ALL, timeout=LONG_S)
        assert [column.present.tolist() for column in columns.values()] == [[False, True]] * 3
        assert writer.delete([b"ann"]) == 1
        assert (await self.ages(filled, b"ann")).present.tolist() == [False]  # and the store still counts as filled
        assert writer.delete([]) == 0
        await filled.close()

    def test_nothing_is_deleted_from_a_store_that_was_never_filled(self, folder: Path) -> None:
        assert self.writer(folder).delete([b"ann"]) == 0

    async def test_a_read_that_its_caller_gives_up_says_nothing_about_the_store(
        self, filled: FeatureStore, folder: Path
    ) -> None:
        for _ in range(9):
            reading = asyncio.ensure_future(self.ages(filled, b"ann"))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait({reading})
        assert (await self.ages(filled, b"ann")).values.tolist() == [31.0]
        await filled.close()

    async def test_a_value_of_another_type_is_refused_until_it_is_written_again(self, folder: Path) -> None:
        writer, store = self.writer(folder), self.reader(folder)
        writer.write(FeatureRows([AGE], [b"ann"], {"age": np.array([31.5], np.float32)}))
        changed = Feature("age", datatype=Datatype.INT32)
        with pytest.raises(FeaturesOutdated, match="fill it again with `make features`"):
            await store.read([b"ann"], [changed], timeout=LONG_S)
        writer.write(FeatureRows([changed], [b"ann"], {"age": np.array([31], np.int32)}))
        assert (await store.read([b"ann"], [changed], timeout=LONG_S))["age"].values.tolist() == [31]
        await store.close()
