from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.modeling import History

ENTITIES = st.sampled_from(["ann", "bob", "cid", "d\0", "d"])
MOMENTS = st.integers(-3, 12)
PAIRS = st.lists(st.tuples(ENTITIES, MOMENTS), max_size=30)


def history(rows: list[tuple[str, int]]) -> History:
    return History(tuple(entity for entity, _ in rows), np.array([time for _, time in rows], np.int64), {})


def as_of(rows: list[tuple[str, int]], asked: list[tuple[str, int]]) -> list[int]:
    moments = np.array([moment for _, moment in asked], np.int64)
    return history(rows).as_of([entity for entity, _ in asked], moments).tolist()


@given(PAIRS, PAIRS)
def test_a_row_is_the_newest_of_its_entity_and_never_from_later_than_the_moment(
    rows: list[tuple[str, int]], asked: list[tuple[str, int]]
) -> None:
    for (entity, moment), found in zip(asked, as_of(rows, asked), strict=True):
        known = [(time, row) for row, (owner, time) in enumerate(rows) if owner == entity and time <= moment]
        assert found == max(known, default=(0, -1))[1]


@given(PAIRS, PAIRS, st.integers(1, 5))
def test_what_happens_later_changes_nothing(
    rows: list[tuple[str, int]], asked: list[tuple[str, int]], after: int
) -> None:
    last = max((moment for _, moment in asked), default=0)
    later = [(entity, last + after) for entity, _ in rows]
    assert as_of(rows + later, asked) == as_of(rows, asked)


def test_what_holds_from_the_very_moment_on_counts_as_known() -> None:
    assert as_of([("ann", 4), ("ann", 5), ("ann", 6)], [("ann", 5)]) == [1]


def test_nothing_is_known_of_a_stranger_and_of_anyone_before_the_first_row() -> None:
    assert as_of([("ann", 5)], [("bob", 9), ("ann", 4)]) == [-1, -1]


def test_the_latest_rows_are_those_of_entities_with_something_new() -> None:
    rows = history([("ann", 1), ("bob", 1), ("ann", 3), ("bob", 9), ("cid", 4)])
    assert rows.latest(since=-1, until=9).tolist() == [2, 3, 4]
    assert rows.latest(since=1, until=4).tolist() == [2, 4]
    assert rows.latest(since=9, until=9).tolist() == []
