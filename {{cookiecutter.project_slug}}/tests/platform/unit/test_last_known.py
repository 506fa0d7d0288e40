from __future__ import annotations

import numpy as np

from serving.domain.features import Feature
from serving.domain.ports import Column
from serving.online.last_known import LastKnown

AGE = Feature("age")
CURVE = Feature("curve", shape=(2,))


def column(feature: Feature, *cells: object) -> Column:
    return Column.of_cells(feature, cells, [0] * len(cells))


def test_it_evicts_the_least_recently_read_entry() -> None:
    known, values = LastKnown(limit=2), np.zeros(3, np.float32)
    known.keep(AGE, [b"a", b"b"], column(AGE, 1.0, 2.0))
    known.keep(AGE, [b"a"], column(AGE, 3.0))
    known.keep(AGE, [b"c"], column(AGE, 4.0))
    assert known.fill(AGE, [b"a", b"b", b"c"], [0, 1, 2], values) == [0, 2]
    assert values.tolist() == [3.0, 0.0, 4.0]


def test_a_missing_value_does_not_replace_a_remembered_one() -> None:
    known, values = LastKnown(), np.zeros(1, np.float32)
    known.keep(AGE, [b"a"], column(AGE, 1.0))
    known.keep(AGE, [b"a"], column(AGE, None))
    assert known.fill(AGE, [b"a"], [0], values) == [0]
    assert values.tolist() == [1.0]


def test_features_of_one_entity_are_stored_separately_arrays_included() -> None:
    known, values = LastKnown(), np.zeros((1, 2), np.float32)
    known.keep(CURVE, [b"a"], column(CURVE, [1.0, 2.0]))
    known.keep(AGE, [b"a"], column(AGE, 9.0))
    assert known.fill(CURVE, [b"a"], [0], values) == [0]
    assert values.tolist() == [[1.0, 2.0]]
