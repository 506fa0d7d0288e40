"""The null object of a feature store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.domain.features import Feature, FeatureSet
from serving.domain.ports import Column


class NoStore:
    """Supply nothing, so that every feature becomes an input of the request."""

    def supplies(self, features: FeatureSet) -> tuple[Feature, ...]:
        """Return no feature at all."""
        return ()

    async def read(
        self, entities: Sequence[bytes], features: Sequence[Feature], *, timeout: float
    ) -> Mapping[str, Column]:
        """Return no column: nothing is ever asked of a store that supplies nothing."""
        return {}

    async def close(self) -> None:
        """Hold nothing, give back nothing."""
