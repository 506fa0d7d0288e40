"""A bounded cache of the last known values, in this process, for features that declare `last_known`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from serving.domain.features import Feature
from serving.domain.ports import Column
from serving.domain.tensors import Tensor

MAX_VALUES = 100_000


class LastKnown:
    """Keep at most `limit` values; evict the least recently read first."""

    def __init__(self, limit: int = MAX_VALUES) -> None:
        self._limit = limit
        self._values: OrderedDict[tuple[str, bytes], Any] = OrderedDict()

    def keep(self, feature: Feature, entities: Sequence[bytes], column: Column) -> None:
        """Remember the present values of a column."""
        values = column.values if feature.shape else column.values.tolist()
        for entity, value, present in zip(entities, values, column.present.tolist(), strict=True):
            if present:
                key = (feature.name, entity)
                # A copy: a view would keep the whole batch in memory.
                self._values[key] = value.copy() if feature.shape else value
                self._values.move_to_end(key)
        while len(self._values) > self._limit:
            self._values.popitem(last=False)

    def fill(self, feature: Feature, entities: Sequence[bytes], rows: Sequence[int], values: Tensor) -> list[int]:
        """Fill these rows with cached values; return the rows that had one."""
        known = [row for row in rows if (feature.name, entities[row]) in self._values]
        for row in known:
            values[row] = self._values[feature.name, entities[row]]
        return known
