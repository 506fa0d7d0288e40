"""Static features over time, and what was known of them at a given moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.domain.features import Feature

Times = npt.NDArray[np.int64]
"""Seconds since 1970, UTC."""


def seconds(times: Any) -> Times:
    """Return times as seconds since 1970; datetimes without a zone count as UTC.

    :raises ValueError: they are neither whole numbers nor datetimes, or one is missing
    """
    array = np.asarray(times)
    if array.dtype.kind == "M" and not np.isnat(array).any():
        return array.astype("datetime64[s]").astype(np.int64)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    raise ValueError(f"times are {array.dtype}, must be seconds since 1970 or datetime64 without a zone, none missing")


@dataclass(frozen=True)
class History:
    """Hold one row per entity and moment: the values that hold from `times` on, until the entity's next row.

    Lists, arrays and pandas columns are taken; times may be datetimes.
    """

    entities: tuple[str, ...]
    times: Times
    columns: Mapping[str, npt.NDArray[Any]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "entities", tuple(map(str, self.entities)))
        object.__setattr__(self, "times", seconds(self.times))
        object.__setattr__(self, "columns", {name: np.asarray(column) for name, column in self.columns.items()})

    def as_of(self, entities: Sequence[str], moments: Times) -> npt.NDArray[np.intp]:
        """Return for each entity the row known at its moment, -1 where nothing was.

        A row never comes from later than the moment; one of exactly that moment counts as known. Of rows with the same
        entity and time the last one counts.
        """
        _, codes = np.unique(np.array([*self.entities, *entities], dtype=object), return_inverse=True)
        ticks, ranks = np.unique(np.concatenate([self.times, moments]), return_inverse=True)
        # One number per (entity, time), ordered as the pair is.
        places = codes.astype(np.int64) * (len(ticks) + 1) + ranks
        own, asked = places[: len(self.times)], places[len(self.times) :]
        order = np.argsort(own, kind="stable")
        found = np.searchsorted(own[order], asked, side="right") - 1
        rows = np.where(found >= 0, order[found], -1) if len(order) else np.full(len(asked), -1)
        of_entity = np.array([-1, *codes[: len(self.times)]])[rows + 1]
        return np.where(of_entity == codes[len(self.times) :], rows, -1)

    def known_at(
        self, entities: Sequence[str], moments: Times, features: Sequence[Feature]
    ) -> dict[str, npt.NDArray[Any]]:
        """Return the columns known of each entity at its moment; the declared default where nothing was, as in serving.

        :raises ValueError: nothing was known, and the feature has no default
        """
        rows = self.as_of(entities, moments)
        unknown = rows < 0
        columns = {}
        for feature in features:
            column = self.columns[feature.name][rows]
            if unknown.any():
                default = feature.default_value
                if default is None:
                    first = entities[int(np.argmax(unknown))]
                    raise ValueError(f"{feature.name} is not known of {first} at its time, and has no default")
                column[unknown] = default.decode() if isinstance(default, bytes) else default
            columns[feature.name] = column
        return columns

    def latest(self, since: int, until: int) -> npt.NDArray[np.intp]:
        """Return the newest row up to `until` of each entity that has one later than `since`, in key order."""
        new = (self.times > since) & (self.times <= until)
        changed = sorted({entity for entity, is_new in zip(self.entities, new.tolist(), strict=True) if is_new})
        return self.as_of(changed, np.full(len(changed), until, np.int64))
