from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from serving.domain.errors import OperatorError
from serving.domain.features import Entity, Feature, FeatureSet
from serving.modeling import History
from serving.offline.score.moments import HistoryStore, moments_of

DAY = 86_400
BASE = Feature("base")
PAST = History(("a", "a", "b"), np.array([DAY, 3 * DAY, DAY]), {"base": np.array([1.0, 2.0, 5.0], np.float32)})


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["1970-01-02", "1970-01-02T01:00:00+01:00"]),
        pa.array([b" 1970-01-02 ", b"1970-01-02 00:00:00"]),
        pa.array([date(1970, 1, 2), date(1970, 1, 2)]),
        pa.array([datetime(1970, 1, 2, tzinfo=UTC)] * 2, pa.timestamp("ns", "UTC")),
        pa.array([datetime(1970, 1, 2, tzinfo=UTC)] * 2, pa.timestamp("ms", "Asia/Tokyo")),
        pa.array([DAY, DAY]),
    ],
)
def test_dates_are_seconds_since_1970_in_utc(column: pa.Array) -> None:
    moments, faults = moments_of(column)
    assert (moments.tolist(), faults) == ([DAY, DAY], {})


def test_what_is_no_date_is_the_fault_of_its_row() -> None:
    _, faults = moments_of(pa.array(["1970-01-02", "soon", "", None]))
    assert faults == {
        1: "'soon' is no date; write YYYY-MM-DD, or ISO 8601",
        2: "holds no date",
        3: "holds no date",
    }
    assert moments_of(pa.array([None, date(1970, 1, 1)]))[1] == {0: "holds no date"}


async def test_a_row_gets_what_was_known_at_its_moment() -> None:
    store = HistoryStore(PAST)
    store.moments = np.array([0, DAY, 2 * DAY, 3 * DAY, 9 * DAY, DAY])
    column = (await store.read([b"a", b"a", b"a", b"a", b"b", b"c"], [BASE], timeout=1.0))["base"]
    assert column.present.tolist() == [False, True, True, True, True, False]
    assert column.values[column.present].tolist() == [1.0, 1.0, 2.0, 5.0]


def test_a_history_without_a_feature_of_the_model_is_refused() -> None:
    with pytest.raises(OperatorError, match=r"model/data\.py: history\(\) returns no other, which the pinned model"):
        HistoryStore(PAST).supplies(FeatureSet(Entity("key"), (BASE, Feature("other")), ()))
