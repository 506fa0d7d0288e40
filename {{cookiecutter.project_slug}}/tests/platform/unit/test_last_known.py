from __future__ import annotations

import numpy as np
import numpy.typing as npt

from serving.domain.features import Feature
from serving.domain.ports import Column
from serving.prediction.last_known import LastKnown

AGE = Feature("age")
CURVE = Feature("curve", shape=(2,))
EVER = 0.0
NOW = 90.0


def column(feature: Feature, *cells: object, time: int = 0) -> Column:
    return Column.of_cells(feature, cells, [time] * len(cells))


def filled(
    known: LastKnown, feature: Feature, *entities: bytes, oldest: float = EVER
) -> tuple[list[int], npt.NDArray[np.generic], list[int]]:
    """Fill a row per entity; return the rows that had a value, the values and their times."""
    empty = column(feature, *[None] * len(entities))
    rows = known.fill(feature, entities, range(len(entities)), empty, oldest)
    return rows, empty.values, empty.times.tolist()


def test_it_evicts_the_least_recently_read_entry() -> None:
    known = LastKnown()
    known.keep(AGE, [b"a", b"b"], column(AGE, 1.0, 2.0), NOW)
    known = LastKnown(limit=known.size)
    known.keep(AGE, [b"a", b"b"], column(AGE, 1.0, 2.0), NOW)
    known.keep(AGE, [b"a"], column(AGE, 3.0), NOW)
    known.keep(AGE, [b"c"], column(AGE, 4.0), NOW)
    rows, values, _ = filled(known, AGE, b"a", b"b", b"c")
    assert rows == [0, 2]
    assert values.tolist() == [3.0, 0.0, 4.0]


def test_its_size_is_bounded_in_bytes_and_large_values_count_as_such() -> None:
    wide, known = Feature("wide", shape=(768,)), LastKnown(limit=1 << 20)
    for number in range(1000):
        known.keep(wide, [b"%d" % number], column(wide, np.zeros(768)), NOW)
        assert known.size <= 1 << 20
    kept = len(filled(known, wide, *(b"%d" % number for number in range(1000)))[0])
    assert 200 < kept < 341  # 3 KB each
    known.keep(wide, [b"%d" % number for number in range(1000)], column(wide, *[None] * 1000), NOW)
    assert known.size == 0


def test_what_the_store_no_longer_has_is_forgotten() -> None:
    known = LastKnown()
    known.keep(AGE, [b"a", b"b"], column(AGE, 1.0, 2.0), NOW)
    known.keep(AGE, [b"a"], column(AGE, None), NOW)
    assert filled(known, AGE, b"a", b"b")[0] == [1]


def test_features_of_one_entity_are_stored_separately_arrays_included() -> None:
    known = LastKnown()
    known.keep(CURVE, [b"a"], column(CURVE, [1.0, 2.0]), NOW)
    known.keep(AGE, [b"a"], column(AGE, 9.0), NOW)
    rows, values, _ = filled(known, CURVE, b"a")
    assert rows == [0]
    assert values.tolist() == [[1.0, 2.0]]


def test_values_keep_their_time_and_those_that_are_too_old_are_not_used() -> None:
    known = LastKnown()
    known.keep(AGE, [b"a"], column(AGE, 1.0, time=100), NOW)
    known.keep(AGE, [b"b"], column(AGE, 2.0), NOW)
    assert filled(known, AGE, b"a", b"b", oldest=90.0)[2] == [100, 90]  # without a time: that of the read
    assert filled(known, AGE, b"a", b"b", oldest=100.0)[0] == [0]
    size = known.size
    assert filled(known, AGE, b"a", b"b", oldest=100.5)[0] == []
    assert known.size == 0 < size  # and they are gone
