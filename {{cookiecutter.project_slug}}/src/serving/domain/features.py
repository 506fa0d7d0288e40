"""The declaration of a model's features: which are looked up by entity key, which come with the request.

Static reference features change rarely (a birth date, a home address, last month's purchases). They are computed in
batch, kept in the feature store and read by key, so that no request pays for them twice. Real-time features are known
only at the moment of the call and travel in the request. Derived features need both kinds: they are computed on whole
columns inside the exported model, by the operations that training used.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serving.domain.tensors import ROWS, Datatype, Tensor, Tensors, TensorSpec

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


class Missing(enum.StrEnum):
    """Say what a static feature is answered with while the store has no value, or gives no answer."""

    DEFAULT = "default"
    """The declared default, flagged in the answer; without one the call is refused."""

    LAST_KNOWN = "last_known"
    """The value that this server read last for the entity, flagged in the answer; where it never did, the default."""

    FAIL = "fail"
    """The call is refused."""


class Operation(enum.StrEnum):
    """Name what derives a column from two others, as ONNX does: the graph holds the same operation."""

    ADD = "Add"
    SUBTRACT = "Sub"
    MULTIPLY = "Mul"
    DIVIDE = "Div"


_OPERATIONS: Mapping[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    Operation.ADD: np.add,
    Operation.SUBTRACT: np.subtract,
    Operation.MULTIPLY: np.multiply,
    Operation.DIVIDE: np.divide,
}


@dataclass(frozen=True)
class Feature:
    """Declare one feature: a column with one value, or one array of fixed `shape`, per row.

    The last three are for static features: `default` answers where the store has no value, as `missing` says, and a
    value older than `max_age_days` is counted as stale.
    """

    name: str
    unit: str = ""
    description: str = ""
    datatype: Datatype = Datatype.FP32
    shape: tuple[int, ...] = ()
    default: float | str | None = None
    missing: Missing = Missing.DEFAULT
    max_age_days: float | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.max_age_days is not None and not self.max_age_days > 0:
            raise ValueError(f"feature {self.name}: max_age_days is {self.max_age_days}, must be more than 0")

    @property
    def default_value(self) -> float | bytes | None:
        """The default as an element of the feature's tensor; none where nothing may stand in for a value."""
        if self.missing is Missing.FAIL:
            return None
        return self.default.encode() if isinstance(self.default, str) else self.default

    @property
    def form(self) -> str:
        """The type and shape of one value; a store keeps it, to tell when a declaration has changed."""
        return f"{self.datatype}{list(self.shape)}"

    @property
    def spec(self) -> TensorSpec:
        """The tensor that carries this feature."""
        return TensorSpec(self.name, self.datatype, (ROWS, *self.shape), self.unit, self.description)


@dataclass(frozen=True)
class Derived:
    """Declare a feature that the model computes from two others, each one number per row of the same type."""

    name: str
    operation: Operation
    left: str
    right: str
    unit: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name)


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
    derived: tuple[Derived, ...] = ()

    def __post_init__(self) -> None:
        names = [self.entity.name, *(feature.name for feature in self.model_inputs), *(d.name for d in self.derived)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"feature names must differ; declared twice: {', '.join(twice)}")
        lists = [feature.name for feature in self.static if feature.shape and feature.datatype is Datatype.BYTES]
        if lists:
            raise ValueError(
                f"static feature {lists[0]}: no store keeps arrays of BYTES; declare a feature per element"
            )
        forms = {feature.name: feature.form for feature in self.model_inputs if feature.datatype.is_float}
        for derived in self.derived:
            left, right = forms.get(derived.left), forms.get(derived.right)
            if left is None or left != right or not left.endswith("[]"):
                raise ValueError(
                    f"derived feature {derived.name}: {derived.left} and {derived.right} must be declared before it, "
                    "as one floating-point number of the same type per row"
                )
            forms[derived.name] = left

    @property
    def model_inputs(self) -> tuple[Feature, ...]:
        """All features that the model is asked with, in the order in which it is trained on them."""
        return self.static + self.real_time

    def assemble(self, columns: Tensors) -> Tensors:
        """Return what the model is asked with: each input in its declared type, in the declared order.

        Training and serving both call this; nothing else decides what the model sees.
        """
        return {
            feature.name: np.ascontiguousarray(columns[feature.name], feature.datatype.dtype)
            for feature in self.model_inputs
        }

    def derive(self, inputs: Tensors) -> Tensors:
        """Return the derived columns; for training, since the exported model computes its own."""
        known = dict(inputs)
        for derived in self.derived:
            known[derived.name] = _OPERATIONS[derived.operation](known[derived.left], known[derived.right])
        return {derived.name: known[derived.name] for derived in self.derived}

    def request_inputs(self, supplied: Sequence[Feature]) -> tuple[TensorSpec, ...]:
        """Return what a caller sends when the store supplies these features: the entity key for them, and the rest."""
        key = (self.entity.spec,) if supplied else ()
        return key + tuple(feature.spec for feature in self.model_inputs if feature not in supplied)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"feature name {name!r} must be a letter, then letters, digits or _, at most 63")
