"""Enrichment: the static features that a request leaves out, read from the feature store by entity key.

A value the store does not give is replaced as `fallback.py` says, and flagged row by row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from serving.domain.deadline import Deadline
from serving.domain.errors import DeadlineExceeded, FeaturesNotFilled, FeatureStoreUnavailable, UnknownEntity, quoted
from serving.domain.features import Feature, FeatureSet, Missing
from serving.domain.ports import Column, FeatureStore
from serving.domain.tensors import Tensor, Tensors
from serving.prediction.fallback import Fallback, FallbackPolicy
from serving.prediction.last_known import MAX_BYTES, LastKnown

_NAMED_ENTITIES = 5
_DAY_S = 86_400


@dataclass(frozen=True)
class Enriched:
    """Hold the model's inputs; by feature, the rows that hold its default or the value read last."""

    inputs: Tensors
    defaulted: dict[str, list[int]] = field(default_factory=dict)
    last_known: dict[str, list[int]] = field(default_factory=dict)


class Observer(Protocol):
    """Receive enrichment metrics; `telemetry.Metrics` counts them."""

    def store_read(self, seconds: float) -> None:
        """Observe the duration of a read in seconds, failed reads too."""

    def store_failed(self, reason: str) -> None:
        """Count a read that gave no features: `not_filled` or `unavailable`."""

    def stood_in(self, feature: Feature, what: Missing, rows: int) -> None:
        """Count the rows that used a fallback for a feature."""

    def served(self, feature: Feature, ages: npt.NDArray[np.float64]) -> None:
        """Observe the ages of the values, in seconds."""


class Enricher:
    """Complete requests from a feature store.

    `timeout` bounds one read, in seconds; `clock` gives the seconds since 1970.
    """

    def __init__(
        self,
        store: FeatureStore,
        features: FeatureSet,
        observer: Observer,
        *,
        timeout: float,
        unknown_entity: Fallback = Fallback.DEFAULT,
        store_unavailable: Fallback = Fallback.REFUSE,
        last_known_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._features = features
        self._observer = observer
        self._timeout = timeout
        self._clock = clock
        self._last_known = LastKnown(last_known_bytes)
        self._supplied = store.supplies(features)
        self._bridged = store_unavailable is Fallback.DEFAULT
        self._policies = [
            FallbackPolicy.resolve(feature, unknown=unknown_entity, unavailable=store_unavailable)
            for feature in self._supplied
        ]

    async def enrich(self, inputs: Tensors, deadline: Deadline) -> Enriched:
        """Return the model's inputs: those of the request, and the store's in place of the entity key.

        :raises DeadlineExceeded: the caller's time was up before the store's
        :raises UnknownEntity: an entity has no value and nothing may stand in
        :raises FeatureStoreUnavailable: the store gave no answer in time and nothing may stand in
        :raises FeaturesOutdated: the store was filled for another declaration
        """
        if not self._policies:
            return Enriched(self._features.assemble(inputs))
        entities = inputs[self._features.entity.name].tolist()
        columns, failure = await self._read(entities, deadline)
        enriched = Enriched({})
        values = {}
        for policy in self._policies:
            column = columns[policy.feature.name]
            if failure is None and policy.feature.missing is Missing.LAST_KNOWN:
                self._last_known.keep(policy.feature, entities, column, self._clock())
            values[policy.feature.name] = self._filled(policy, entities, column, failure, enriched)
        self._observe(columns, enriched)
        return replace(enriched, inputs=self._features.assemble({**inputs, **values}))

    async def _read(
        self, entities: list[bytes], deadline: Deadline
    ) -> tuple[Mapping[str, Column], FeatureStoreUnavailable | None]:
        """Read all columns; from an unavailable store empty ones and the error, if a fallback is allowed."""
        started = time.perf_counter()
        try:
            # Two limits: what the store may take says something about the store, what the caller has left does not.
            async with asyncio.timeout(max(0.0, deadline.left())):
                return await self._store.read(entities, self._supplied, timeout=self._timeout), None
        except TimeoutError:
            late = f"the deadline of {deadline.timeout:.3f} s passed while the features were read."
            raise DeadlineExceeded(late) from None
        except FeatureStoreUnavailable as failure:
            self._observer.store_failed("not_filled" if isinstance(failure, FeaturesNotFilled) else "unavailable")
            if not self._bridged:
                raise
            nothing: list[None] = [None] * len(entities)
            return {f.name: Column.of_cells(f, nothing, [0] * len(entities)) for f in self._supplied}, failure
        finally:
            self._observer.store_read(time.perf_counter() - started)

    def _filled(
        self,
        policy: FallbackPolicy,
        entities: list[bytes],
        column: Column,
        failure: FeatureStoreUnavailable | None,
        enriched: Enriched,
    ) -> Tensor:
        """Return a feature's values with substitutes for the missing ones, and flag those rows in `enriched`.

        :raises UnknownEntity: a value is unknown and nothing may stand in
        :raises FeatureStoreUnavailable: the store gave no answer and nothing may stand in
        """
        missing = np.flatnonzero(~column.present).tolist()
        if not missing:
            return column.values
        feature, values = policy.feature, column.values.copy()
        substitutes = policy.unknown if failure is None else policy.unavailable
        if substitutes.last_known:
            oldest = 0.0 if feature.max_age_days is None else self._clock() - feature.max_age_days * _DAY_S
            copied = replace(column, values=values)
            if known := self._last_known.fill(feature, entities, missing, copied, oldest):
                enriched.last_known[feature.name] = known
                missing = sorted(set(missing) - set(known))
        if missing:
            if substitutes.default is None:
                raise failure or self._not_found(feature, [entities[row] for row in missing])
            values[missing] = substitutes.default
            enriched.defaulted[feature.name] = missing
        return values

    def _not_found(self, feature: Feature, entities: list[bytes]) -> UnknownEntity:
        unknown = list(dict.fromkeys(entities))
        shown = ", ".join(map(quoted, unknown[:_NAMED_ENTITIES]))
        return UnknownEntity(
            f"input {quoted(self._features.entity.name)}: the feature store has no {feature.name} "
            f"for {shown} ({len(unknown)} in all); correct the key or materialize its features."
        )

    def _observe(self, columns: Mapping[str, Column], enriched: Enriched) -> None:
        """Count what was served, once it is certain that the call goes on."""
        now = self._clock()
        for feature in self._supplied:
            times = columns[feature.name].times
            dated = times[times > 0]
            if dated.size:
                self._observer.served(feature, now - dated.astype(np.float64))
            for what, flags in ((Missing.DEFAULT, enriched.defaulted), (Missing.LAST_KNOWN, enriched.last_known)):
                if feature.name in flags:
                    self._observer.stood_in(feature, what, len(flags[feature.name]))
