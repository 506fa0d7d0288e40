"""A bounded cache of the last known values, in this process, for features that declare `last_known`."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from serving.domain.features import Feature
from serving.domain.ports import Column

MAX_BYTES = 64 << 20
_OVERHEAD_BYTES = 300  # of one entry: key, tuple, time and its place in the dictionary


class LastKnown:
    """Keep values up to `limit` bytes; evict the least recently read first."""

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self._limit = limit
        self._values: OrderedDict[tuple[str, bytes], tuple[Any, int]] = OrderedDict()
        self.size = 0
        """How many bytes the values take, about."""

    def keep(self, feature: Feature, entities: Sequence[bytes], column: Column, now: float) -> None:
        """Remember the present values of a column, and forget those that the store no longer has.

        A value without a time has the age of this read; `now` is in seconds since 1970.
        """
        values = column.values if feature.shape else column.values.tolist()
        rows = zip(entities, values, column.present.tolist(), column.times.tolist(), strict=True)
        for entity, value, present, time in rows:
            key = (feature.name, entity)
            self._forget(key)
            if present:
                # A copy: a view would keep the whole batch in memory.
                kept = value.copy() if feature.shape else value
                self._values[key] = kept, time or int(now)
                self.size += _size(entity, kept)
        while self.size > self._limit:
            self._forget(next(iter(self._values)))

    def fill(
        self, feature: Feature, entities: Sequence[bytes], rows: Sequence[int], column: Column, oldest: float
    ) -> list[int]:
        """Fill these rows with cached values and their times; return the rows that had one.

        A value of before `oldest`, in seconds since 1970, is forgotten.
        """
        filled = []
        for row in rows:
            key = (feature.name, entities[row])
            if key not in self._values:
                continue
            value, time = self._values[key]
            if time < oldest:
                self._forget(key)
                continue
            column.values[row], column.times[row] = value, time
            filled.append(row)
        return filled

    def _forget(self, key: tuple[str, bytes]) -> None:
        if key in self._values:
            value, _ = self._values.pop(key)
            self.size -= _size(key[1], value)


def _size(entity: bytes, value: Any) -> int:
    return len(entity) + sys.getsizeof(value) + _OVERHEAD_BYTES
