"""Enrichment: the static features that a request leaves out, read from the feature store by entity key."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from serving.domain import Tensor, Tensors
from serving.errors import FeatureStoreAway, NotFound, quoted
from serving.features import Feature, FeatureSet
from serving.ports import Column, FeatureStore

_NAMED_ENTITIES = 5


class UnknownEntity(enum.StrEnum):
    """Say what an entity or value that the store does not have is answered with."""

    DEFAULT = "default"
    """The feature's declared default, flagged in the answer; NOT_FOUND where it declares none."""

    REFUSE = "refuse"
    """NOT_FOUND, always."""


class StoreAway(enum.StrEnum):
    """Say what a call is answered with while the store gives no answer."""

    DEFAULT = "default"
    """The declared defaults, flagged in the answer; UNAVAILABLE where a feature declares none."""

    REFUSE = "refuse"
    """UNAVAILABLE, always."""


@dataclass(frozen=True)
class Enriched:
    """Hold what the model is asked with, and which rows of which features are defaults."""

    inputs: Tensors
    defaulted: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Enricher:
    """Complete requests from a feature store.

    `observe_read` gets the seconds that each read took, `observe_default` the name and row count of each default.
    """

    store: FeatureStore
    features: FeatureSet
    unknown: UnknownEntity
    timeout: float
    observe_read: Callable[[float], None]
    observe_default: Callable[[str, int], None]
    away: StoreAway = StoreAway.REFUSE

    async def enrich(self, inputs: Tensors, *, timeout: float) -> Enriched:
        """Return the model's inputs: those of the request, and the store's in place of the entity key.

        :raises NotFound: an entity has no value and may not have the default
        :raises FeatureStoreAway: the store gave no answer in time
        """
        supplied = self.store.supplies(self.features)
        if not supplied:
            return Enriched(inputs)
        entities = inputs[self.features.entity.name].tolist()
        defaulted: dict[str, list[int]] = {}
        started = time.perf_counter()
        try:
            columns = await self.store.read(entities, supplied, timeout=min(timeout, self.timeout))
        except FeatureStoreAway:
            if self.away is StoreAway.REFUSE or any(feature.default is None for feature in supplied):
                raise
            values = {feature.name: self._default_all(feature, len(entities), defaulted) for feature in supplied}
        else:
            values = {
                feature.name: self._fill(feature, columns[feature.name], entities, defaulted) for feature in supplied
            }
        finally:
            self.observe_read(time.perf_counter() - started)
        given = {name: tensor for name, tensor in inputs.items() if name != self.features.entity.name}
        return Enriched(given | values, defaulted)

    def _fill(self, feature: Feature, column: Column, entities: list[bytes], defaulted: dict[str, list[int]]) -> Tensor:
        if column.present.all():
            return column.values
        missing = np.flatnonzero(~column.present).tolist()
        if self.unknown is UnknownEntity.REFUSE or feature.default is None:
            unknown = list(dict.fromkeys(entities[row] for row in missing))
            shown = ", ".join(map(quoted, unknown[:_NAMED_ENTITIES]))
            raise NotFound(
                f"input {quoted(self.features.entity.name)}: the feature store has no {feature.name} "
                f"for {shown} ({len(unknown)} in all); correct the key or have its features materialized."
            )
        return self._default(feature, column.values.copy(), missing, defaulted)

    def _default_all(self, feature: Feature, rows: int, defaulted: dict[str, list[int]]) -> Tensor:
        values = np.empty((rows, *feature.shape), feature.datatype.dtype)
        return self._default(feature, values, list(range(rows)), defaulted)

    def _default(self, feature: Feature, values: Tensor, rows: list[int], defaulted: dict[str, list[int]]) -> Tensor:
        """Put the default into these rows, and say so to the caller and to the metrics."""
        values[rows] = feature.default_value
        defaulted[feature.name] = rows
        self.observe_default(feature.name, len(rows))
        return values
