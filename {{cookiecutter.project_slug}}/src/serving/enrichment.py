"""Enrichment: the static features that a request leaves out, read from the feature store by entity key.

What stands in for a value that the store does not give is declared with the feature; the settings below can only forbid
it. Whatever stood in is flagged, row by row.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from serving.domain import Tensor, Tensors
from serving.errors import FeatureStoreAway, NotFound, quoted
from serving.features import Feature, FeatureSet, Missing
from serving.last_known import LastKnown
from serving.ports import Column, FeatureStore

_NAMED_ENTITIES = 5


class UnknownEntity(enum.StrEnum):
    """Say what an entity or value that the store does not have is answered with."""

    DEFAULT = "default"
    """What the feature declares, flagged in the answer; NOT_FOUND where nothing may stand in."""

    REFUSE = "refuse"
    """NOT_FOUND, always."""


class StoreAway(enum.StrEnum):
    """Say what a call is answered with while the store gives no answer."""

    DEFAULT = "default"
    """What each feature declares, flagged in the answer; UNAVAILABLE where nothing may stand in."""

    REFUSE = "refuse"
    """UNAVAILABLE, always."""


@dataclass(frozen=True)
class Enriched:
    """Hold what the model is asked with, and which rows of which features are defaults or the values known last."""

    inputs: Tensors
    defaulted: Mapping[str, Sequence[int]] = field(default_factory=dict)
    last_known: Mapping[str, Sequence[int]] = field(default_factory=dict)


class Observer(Protocol):
    """Be told what enrichment does; `telemetry.Metrics` counts it."""

    def store_read(self, seconds: float) -> None:
        """Take the duration of a read, failed ones too."""

    def stood_in(self, feature: Feature, what: Missing, rows: int) -> None:
        """Take the number of rows in which something stood in for a feature's value."""

    def served(self, feature: Feature, ages: npt.NDArray[np.float64]) -> None:
        """Take the ages, in seconds, of the values that were read."""


@dataclass(frozen=True)
class Enricher:
    """Complete requests from a feature store; `clock` gives the seconds since 1970."""

    store: FeatureStore
    features: FeatureSet
    unknown: UnknownEntity
    timeout: float
    observer: Observer
    away: StoreAway = StoreAway.REFUSE
    known: LastKnown = field(default_factory=LastKnown)
    clock: Callable[[], float] = time.time

    async def enrich(self, inputs: Tensors, *, timeout: float) -> Enriched:
        """Return the model's inputs: those of the request, and the store's in place of the entity key.

        :raises NotFound: an entity has no value and nothing may stand in
        :raises FeatureStoreAway: the store gave no answer in time and nothing may stand in
        :raises FeaturesOutdated: the store was filled for another declaration
        """
        supplied = self.store.supplies(self.features)
        if not supplied:
            return Enriched(self.features.assemble(inputs))
        entities = inputs[self.features.entity.name].tolist()
        columns, away = await self._read(entities, supplied, timeout)
        defaulted: dict[str, list[int]] = {}
        last_known: dict[str, list[int]] = {}
        values = {}
        for feature in supplied:
            column = columns[feature.name]
            values[feature.name] = column.values
            if away is None and feature.missing is Missing.LAST_KNOWN:
                self.known.keep(feature, entities, column)
            missing = np.flatnonzero(~column.present).tolist()
            if not missing:
                continue
            values[feature.name] = filled = column.values.copy()
            known = self._known(feature, entities, missing, filled, away)
            rest = sorted(set(missing) - set(known)) if known else missing
            if rest:
                self._default(feature, entities, rest, filled, away)
                defaulted[feature.name] = rest
            if known:
                last_known[feature.name] = known
        self._observe(supplied, columns, defaulted, last_known)
        return Enriched(self.features.assemble({**inputs, **values}), defaulted, last_known)

    async def _read(
        self, entities: list[bytes], supplied: Sequence[Feature], timeout: float
    ) -> tuple[Mapping[str, Column], FeatureStoreAway | None]:
        """Return what the store has; if it is away and something may stand in, that and nothing of each feature."""
        started = time.perf_counter()
        try:
            return await self.store.read(entities, supplied, timeout=min(timeout, self.timeout)), None
        except FeatureStoreAway as away:
            if self.away is StoreAway.REFUSE:
                raise
            nothing: list[None] = [None] * len(entities)
            return {f.name: Column.of_cells(f, nothing, [0] * len(entities)) for f in supplied}, away
        finally:
            self.observer.store_read(time.perf_counter() - started)

    def _known(
        self, feature: Feature, entities: list[bytes], rows: list[int], values: Tensor, away: FeatureStoreAway | None
    ) -> list[int]:
        if feature.missing is not Missing.LAST_KNOWN or (away is None and self.unknown is UnknownEntity.REFUSE):
            return []
        return self.known.fill(feature, entities, rows, values)

    def _default(
        self, feature: Feature, entities: list[bytes], rows: list[int], values: Tensor, away: FeatureStoreAway | None
    ) -> None:
        """Put the default into these rows, or refuse the call."""
        if feature.default_value is not None and (away is not None or self.unknown is UnknownEntity.DEFAULT):
            values[rows] = feature.default_value
            return
        if away is not None:
            raise away
        unknown = list(dict.fromkeys(entities[row] for row in rows))
        shown = ", ".join(map(quoted, unknown[:_NAMED_ENTITIES]))
        raise NotFound(
            f"input {quoted(self.features.entity.name)}: the feature store has no {feature.name} "
            f"for {shown} ({len(unknown)} in all); correct the key or have its features materialized."
        )

    def _observe(
        self,
        supplied: Sequence[Feature],
        columns: Mapping[str, Column],
        defaulted: Mapping[str, list[int]],
        last_known: Mapping[str, list[int]],
    ) -> None:
        """Tell what was served, once it is certain that the call goes on."""
        now = self.clock()
        for feature in supplied:
            times = columns[feature.name].times
            dated = times[times > 0]
            if dated.size:
                self.observer.served(feature, now - dated.astype(np.float64))
            for what, flags in ((Missing.DEFAULT, defaulted), (Missing.LAST_KNOWN, last_known)):
                if feature.name in flags:
                    self.observer.stood_in(feature, what, len(flags[feature.name]))
