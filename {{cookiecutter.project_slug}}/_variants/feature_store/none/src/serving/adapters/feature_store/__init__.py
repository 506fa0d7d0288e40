"""No feature store: callers send every feature themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from serving.domain.features import Feature, FeatureSet
from serving.domain.ports import Column, FeatureStore


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


def _open(_url: str) -> FeatureStore:
    return NoStore()


READERS: Mapping[str, Callable[[str], FeatureStore]] = {"none": _open}
