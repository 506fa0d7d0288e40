"""The declaration of a model's features: looked up by entity key, or sent with the request.

Static reference features change rarely (a birth date, a home address, last month's purchases). They are computed in
batch, kept in the feature store and read by key, so that no request pays for them twice. Real-time features are known
only at the moment of the call and travel in the request. Derived features need both kinds: they are computed on whole
columns inside the exported model, by the operations that training used.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from serving.domain.tensors import ROWS, Datatype, Tensor, Tensors, TensorSpec

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_SENT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
"""What other servers allow as the name of an input, for example `input-0`."""


class Missing(enum.StrEnum):
    """Choose the fallback of a static feature when its value is unknown or the store is unavailable."""

    DEFAULT = "default"
    """Use the declared default and flag it; without a default, refuse the call."""

    LAST_KNOWN = "last_known"
    """Use the value this server read last for the entity and flag it; if there is none, the default."""

    FAIL = "fail"
    """Refuse the call."""

    NAN = "nan"
    """Give the model NaN and flag it; for a feature with `allow_nan`."""


class Operation(enum.StrEnum):
    """Name an element-wise operation on two columns, as ONNX does: the exported graph has the same operator."""

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

    `allow_nan` accepts NaN as "not measured", for models that handle it. The last three are for static features:
    `default` and `missing` declare the fallback for a missing value; a value older than `max_age_days` is counted as
    stale.
    """

    name: str
    unit: str = ""
    description: str = ""
    datatype: Datatype = Datatype.FP32
    shape: tuple[int, ...] = ()
    allow_nan: bool = False
    default: float | int | str | None = None
    missing: Missing = Missing.DEFAULT
    max_age_days: float | None = None

    def __post_init__(self) -> None:
        if not _SENT_NAME.fullmatch(self.name):
            raise ValueError(
                f"feature name {self.name!r} must be a letter, then letters, digits, or one of _.-, at most 63"
            )
        if self.max_age_days is not None and not self.max_age_days > 0:
            raise ValueError(f"feature {self.name}: max_age_days is {self.max_age_days}, must be more than 0")
        if self.default is not None and not _holds(self.datatype, self.default):
            raise ValueError(f"feature {self.name}: default is {self.default!r}, which {self.datatype} can't hold")
        if self.allow_nan and not self.datatype.is_float:
            raise ValueError(f"feature {self.name}: allow_nan needs FP16, FP32 or FP64, {self.datatype} has no NaN")
        if self.missing is Missing.NAN and not self.allow_nan:
            raise ValueError(f"feature {self.name}: missing=Missing.NAN needs allow_nan=True")

    @property
    def default_value(self) -> float | int | bytes | None:
        """The default as a tensor element; None if a missing value must fail the call."""
        if self.missing is Missing.FAIL:
            return None
        if self.missing is Missing.NAN:
            return math.nan
        return self.default.encode() if isinstance(self.default, str) else self.default

    @property
    def form(self) -> str:
        """The type and shape of one value; stores keep it to detect a changed declaration."""
        return f"{self.datatype}{list(self.shape)}"

    @property
    def spec(self) -> TensorSpec:
        """The tensor that carries this feature."""
        return TensorSpec(self.name, self.datatype, (ROWS, *self.shape), self.unit, self.description, self.allow_nan)

    def tensor(self, values: Tensor) -> Tensor:
        """Return values in the declared type; text becomes UTF-8."""
        if self.datatype is Datatype.TEXT:
            return np.ascontiguousarray(_TO_UTF8(values), object)
        return np.ascontiguousarray(values, self._dtype)

    @cached_property
    def _dtype(self) -> np.dtype[Any]:
        return self.datatype.dtype


def _holds(datatype: Datatype, value: float | int | str) -> bool:
    """Return whether a datatype has this value; a float may lose precision, but not become infinite."""
    if isinstance(value, str) or datatype.holds_bytes:
        return isinstance(value, str) and datatype.holds_bytes
    if datatype is Datatype.BOOL:
        return value in (0, 1)
    if datatype.is_float:
        return abs(value) <= float(np.finfo(datatype.dtype).max)
    limits = np.iinfo(datatype.dtype)
    return value == int(value) and int(limits.min) <= value <= int(limits.max) if math.isfinite(value) else False


def _utf8(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


_TO_UTF8 = np.frompyfunc(_utf8, 1, 1)


@dataclass(frozen=True)
class Derived:
    """Declare a feature that the model computes from two numeric columns of the same type."""

    name: str
    operation: Operation
    left: str
    right: str
    unit: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"feature name {self.name!r} must be a letter, then letters, digits or _, at most 63")


@dataclass(frozen=True)
class Entity:
    """Name the entity of the static features; the request carries its key as BYTES."""

    name: str
    description: str = ""

    @property
    def spec(self) -> TensorSpec:
        """The tensor that carries the entity keys."""
        return TensorSpec(self.name, Datatype.BYTES, (ROWS,), "", self.description)


@dataclass(frozen=True)
class FeatureSet:
    """Declare all features of a model; model inputs are the static ones, then the real-time ones."""

    entity: Entity
    static: tuple[Feature, ...]
    real_time: tuple[Feature, ...]
    derived: tuple[Derived, ...] = ()

    def __post_init__(self) -> None:
        names = [self.entity.name, *(feature.name for feature in self.model_inputs), *(d.name for d in self.derived)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"feature names must differ; declared twice: {', '.join(twice)}")
        unfit = [feature.name for feature in self.static if not _NAME.fullmatch(feature.name)]
        if unfit:
            raise ValueError(f"static feature {unfit[0]}: no store takes a . or - in a name; write _ instead")
        lists = [feature.name for feature in self.static if feature.shape and feature.datatype.holds_bytes]
        if lists:
            raise ValueError(
                f"static feature {lists[0]}: no store keeps arrays of text or BYTES; declare a feature per element"
            )
        unclear = [f.name for f in self.static if f.allow_nan and f.missing is not Missing.NAN]
        if unclear:
            raise ValueError(
                f"static feature {unclear[0]}: not every store can tell NaN from a missing value; with allow_nan "
                "declare missing=Missing.NAN"
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

    @cached_property
    def model_inputs(self) -> tuple[Feature, ...]:
        """All model inputs, in training order."""
        return self.static + self.real_time

    def graph_output(self, name: str) -> str:
        """Return what an output is called in the model's graph, where it can't have an input's name."""
        return f"{name}/output" if any(name == feature.name for feature in self.model_inputs) else name

    def assemble(self, columns: Tensors) -> Tensors:
        """Return the model's inputs, each in its declared type, in the declared order.

        Training and serving both call this, so both see the same inputs.
        """
        return {feature.name: feature.tensor(columns[feature.name]) for feature in self.model_inputs}

    def derive(self, inputs: Tensors) -> Tensors:
        """Return the derived columns, for training; the exported model computes them itself."""
        known = dict(inputs)
        for derived in self.derived:
            known[derived.name] = _OPERATIONS[derived.operation](known[derived.left], known[derived.right])
        return {derived.name: known[derived.name] for derived in self.derived}

    def request_inputs(self, supplied: Sequence[Feature]) -> tuple[TensorSpec, ...]:
        """Return the request's inputs if the store supplies these features: the entity key and all other features."""
        key = (self.entity.spec,) if supplied else ()
        return key + tuple(feature.spec for feature in self.model_inputs if feature not in supplied)


def flat(columns: Tensors) -> Iterator[tuple[str, Tensor]]:
    """Yield one column per number: an array of n values per row becomes n columns, `name_0` to `name_n-1`."""
    for name, column in columns.items():
        if column.ndim == 1:
            yield name, column
        else:
            wide = column.reshape(len(column), -1)
            yield from ((f"{name}_{place}", wide[:, place]) for place in range(wide.shape[1]))
