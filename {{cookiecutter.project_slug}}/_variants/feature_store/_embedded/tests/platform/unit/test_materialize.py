from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.domain.errors import FeatureStoreUnavailable, InvalidRequest
from serving.domain.features import Entity, Feature, FeatureSet
from serving.domain.ports import FeatureRows
from serving.modeling import History
from serving.offline import materialize as materializing
from serving.offline import user_model
from serving.offline.materialize import materialize
from serving.offline.push_features import push
from tests.platform.support.fakes import FakeStore

WEIGHT = Feature("weight")
FEATURES = FeatureSet(Entity("key"), (Feature("age"), WEIGHT), ())
LONG_S = 60.0


class Recorder(FakeStore):
    """A store that records written entities, and fails a write on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[list[bytes]] = []
        self.lost = False

    def write(self, rows: FeatureRows, *, replace: bool = False) -> None:
        if self.lost:
            raise FeatureStoreUnavailable("the feature store can't be written.")
        self.written.append(list(rows.entities))
        super().write(rows, replace=replace)


def past(*rows: tuple[str, int, float]) -> History:
    values = np.array([value for *_, value in rows], np.float32)
    columns = {feature.name: values for feature in FEATURES.static}
    return History(tuple(entity for entity, *_ in rows), np.array([time for _, time, _ in rows]), columns)


BEFORE = past(("ann", 10, 1.0), ("bob", 20, 2.0), ("ann", 30, 3.0))
AFTER = past(("ann", 10, 1.0), ("bob", 20, 2.0), ("ann", 30, 3.0), ("bob", 40, 4.0), ("cid", 50, 5.0))


async def weights(store: FakeStore, *keys: bytes) -> list[tuple[float, int]]:
    column = (await store.read(keys, [WEIGHT], timeout=LONG_S))["weight"]
    return list(zip(column.values.tolist(), column.times.tolist(), strict=True))


async def test_the_newest_values_are_written_with_their_event_time() -> None:
    store = FakeStore()
    materialize(BEFORE, FEATURES, store, until=100)
    assert await weights(store, b"ann", b"bob") == [(3.0, 30), (2.0, 20)]


async def test_only_entities_with_new_values_are_written_again() -> None:
    store = Recorder()
    for rows in (BEFORE, BEFORE, AFTER, AFTER):
        materialize(rows, FEATURES, store, until=100)
    assert store.written == [[b"ann", b"bob"], [b"bob", b"cid"]]
    assert await weights(store, b"ann", b"bob", b"cid") == [(3.0, 30), (4.0, 40), (5.0, 50)]


async def test_values_known_later_are_left_out_until_then() -> None:
    store = Recorder()
    materialize(AFTER, FEATURES, store, until=20)
    assert await weights(store, b"ann", b"bob") == [(1.0, 10), (2.0, 20)]
    materialize(AFTER, FEATURES, store, until=100)
    assert store.written[1] == [b"ann", b"bob", b"cid"]


def test_the_next_run_makes_up_for_a_lost_one() -> None:
    store = Recorder()
    materialize(BEFORE, FEATURES, store, until=100)
    store.lost = True
    with pytest.raises(FeatureStoreUnavailable):
        materialize(AFTER, FEATURES, store, until=100)
    store.lost = False
    materialize(AFTER, FEATURES, store, until=100)
    assert store.written == [[b"ann", b"bob"], [b"bob", b"cid"]]


@pytest.mark.parametrize("watermark", ["", "another-declaration 100"])
def test_an_empty_store_or_a_changed_declaration_is_filled_completely(watermark: str) -> None:
    store = Recorder()
    materialize(BEFORE, FEATURES, store, until=100)
    store.mark = watermark
    materialize(BEFORE, FEATURES, store, until=100)
    materialize(BEFORE, FEATURES, store, until=100, everything=True)
    assert store.written == [[b"ann", b"bob"]] * 3


async def test_writing_everything_removes_what_is_no_longer_in_the_data() -> None:
    store = FakeStore()
    materialize(AFTER, FEATURES, store, until=100)
    materialize(past(("cid", 50, 5.0)), FEATURES, store, until=100, everything=True)
    assert set(store.rows) == {b"cid"}


async def test_a_pushed_value_is_read_at_once_and_changes_no_other() -> None:
    store = FakeStore()
    materialize(BEFORE, FEATURES, store, until=100)
    push(store, FEATURES, "bob", {"weight": "26.5"}, when=60)
    assert await weights(store, b"bob", b"ann") == [(26.5, 60), (3.0, 30)]
    age = (await store.read([b"bob"], [FEATURES.static[0]], timeout=LONG_S))[FEATURES.static[0].name]
    assert (age.values.tolist(), age.times.tolist()) == ([2.0], [20])


def test_a_push_does_not_move_the_watermark() -> None:
    store = Recorder()
    push(store, FEATURES, "bob", {"weight": "26.5"}, when=60)
    materialize(BEFORE, FEATURES, store, until=100)
    assert store.written[1] == [b"ann", b"bob"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colour": "red"}, "feature 'colour' is not kept in the store; these are: age, weight"),
        ({"weight": "heavy"}, "feature 'weight': 'heavy' is not FP32"),
        ({"weight": "1,2"}, "feature 'weight': '1,2' is not FP32"),
        ({"weight": "nan"}, "holds NaN"),
        ({"weight": ""}, "feature 'weight': '' is not FP32"),
    ],
)
def test_a_value_that_does_not_fit_the_declaration_is_not_pushed(values: dict[str, str], message: str) -> None:
    store = FakeStore()
    with pytest.raises(InvalidRequest, match=message):
        push(store, FEATURES, "bob", values, when=60)
    assert store.rows == {}


def test_without_a_terminal_no_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    materialize(BEFORE, FEATURES, FakeStore(), until=100)
    assert capsys.readouterr() == ("", "")


def test_a_model_without_static_features_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    monkeypatch.setenv("SERVING_FEATURE_STORE", f"sqlite:{folder / 'features.db'}")
    monkeypatch.setattr(user_model, "features", lambda: replace(FEATURES, static=(), real_time=FEATURES.static))
    assert materializing.main([]) == 0
    assert capsys.readouterr().out == "model/features.py declares no static features: there is nothing to write\n"
    assert list(folder.iterdir()) == []
