"""The declaration of a model's features: which are looked up by entity key, which come with the request.

Static reference features change rarely (a birth date, a home address, last month's purchases). They are computed in
batch, kept in the feature store and read by key, so that no request pays for them twice. Real-time features are known
only at the moment of the call and travel in the request.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from serving.domain import ROWS, Datatype, TensorSpec

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True)
class Feature:
    """Declare one feature: a column with one value, or one array of fixed `shape`, per row.

    `default` answers for a static feature that the store does not have; without one such a call is refused.
    """

    name: str
    unit: str = ""
    description: str = ""
    datatype: Datatype = Datatype.FP32
    shape: tuple[int, ...] = ()
    default: float | str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"feature name {self.name!r} must be a letter, then letters, digits or _, at most 63")

    @property
    def default_value(self) -> float | bytes | None:
        """The default as an element of the feature's tensor."""
        return self.default.encode() if isinstance(self.default, str) else self.default

    @property
    def spec(self) -> TensorSpec:
        """The tensor that carries this feature."""
        return TensorSpec(self.name, self.datatype, (ROWS, *self.shape), self.unit, self.description)


@dataclass(frozen=True)
class Entity:
    """Name what the static features belong to; its key travels in the request as BYTES."""

    name: str
    description: str = ""

    @property
    def spec(self) -> TensorSpec:
        """The tensor that carries the entity keys."""
        return TensorSpec(self.name, Datatype.BYTES, (ROWS,), "", self.description)


@dataclass(frozen=True)
class FeatureSet:
    """Declare all features of a model; its input is the static ones, then the real-time ones."""

    entity: Entity
    static: tuple[Feature, ...]
    real_time: tuple[Feature, ...]

    def __post_init__(self) -> None:
        names = [self.entity.name, *(feature.name for feature in self.model_inputs)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"feature names must differ; declared twice: {', '.join(twice)}")
        lists = [feature.name for feature in self.static if feature.shape and feature.datatype is Datatype.BYTES]
        if lists:
            raise ValueError(
                f"static feature {lists[0]}: no store keeps arrays of BYTES; declare a feature per element"
            )

    @property
    def model_inputs(self) -> tuple[Feature, ...]:
        """All features, in the order in which the model is trained on them."""
        return self.static + self.real_time

    def request_inputs(self, supplied: Sequence[Feature]) -> tuple[TensorSpec, ...]:
        """Return what a caller sends when the store supplies these features: the entity key for them, and the rest."""
        key = (self.entity.spec,) if supplied else ()
        return key + tuple(feature.spec for feature in self.model_inputs if feature not in supplied)
