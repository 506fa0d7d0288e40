"""Tensors and signatures, independent of transport and framework."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.domain.errors import InvalidRequest, quoted

Tensor = npt.NDArray[Any]
Tensors = Mapping[str, Tensor]

ROWS = -1
"""The first dimension of every tensor: the number of rows in the call."""


class Datatype(enum.StrEnum):
    """Name the element types of the Open Inference Protocol that NumPy can hold (BF16 it can't), and text.

    TEXT travels as BYTES in UTF-8; callers and `model/` see `str`. STRING is its other name.
    """

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"
    TEXT = "TEXT"
    STRING = TEXT

    @property
    def wire(self) -> str:
        """The protocol's name of this type."""
        return "BYTES" if self is Datatype.TEXT else self.value

    @property
    def holds_bytes(self) -> bool:
        """Whether each element is a `bytes`, of any length."""
        return self in (Datatype.BYTES, Datatype.TEXT)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The little-endian NumPy type; BYTES and TEXT are objects, each a `bytes`."""
        return _DTYPES[self]

    @property
    def is_float(self) -> bool:
        """Whether this type has NaN and infinities."""
        return self in (Datatype.FP16, Datatype.FP32, Datatype.FP64)


_DTYPES: dict[Datatype, np.dtype[Any]] = {
    Datatype.BOOL: np.dtype("?"),
    Datatype.BYTES: np.dtype("O"),
    Datatype.TEXT: np.dtype("O"),
    **{d: np.dtype(f"<u{int(d[4:]) // 8}") for d in Datatype if d.startswith("UINT")},
    **{d: np.dtype(f"<i{int(d[3:]) // 8}") for d in Datatype if d.startswith("INT")},
    **{d: np.dtype(f"<f{int(d[2:]) // 8}") for d in Datatype if d.startswith("FP")},
}


@dataclass(frozen=True)
class TensorSpec:
    """Declare one named tensor.

    `shape` starts with ROWS and is fixed after that: the largest message a caller may send follows from it.
    `max_bytes` bounds one element of a BYTES or TEXT tensor. `allow_nan` lets NaN pass, but no infinity.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...] = (ROWS,)
    unit: str = ""
    description: str = ""
    allow_nan: bool = False
    max_bytes: int = 256

    def __post_init__(self) -> None:
        if not self.shape or self.shape[0] != ROWS or any(size < 1 for size in self.shape[1:]):
            raise ValueError(f"tensor {self.name}: shape {self.shape} must be ({ROWS}, ...) and fixed after that")

    # Computed once: each is asked for in every call.

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type of the elements."""
        return self.datatype.dtype

    @cached_property
    def wire(self) -> str:
        """The protocol's name of the elements' type."""
        return self.datatype.wire

    @cached_property
    def holds_bytes(self) -> bool:
        """Whether each element is a `bytes`, of any length."""
        return self.datatype.holds_bytes

    @cached_property
    def is_float(self) -> bool:
        """Whether the elements' type has NaN and infinities."""
        return self.datatype.is_float

    @cached_property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return self.shape[1:]

    @cached_property
    def row_elements(self) -> int:
        """The number of elements in one row."""
        return math.prod(self.row_shape)

    def check_declared(self, datatype: str, shape: Sequence[int], max_rows: int) -> int:
        """Refuse an undeclared datatype or shape, before any element is read; return the number of rows."""
        rank = len(self.shape)
        known = datatype == self.wire and len(shape) == rank and 1 <= shape[0] <= max_rows
        if known and (rank == 1 or tuple(shape[1:]) == self.row_shape):
            return shape[0]
        raise InvalidRequest(f"input {quoted(self.name)}: {self._fault(datatype, shape, max_rows)}.")

    def _fault(self, datatype: str, shape: Sequence[int], max_rows: int) -> str:
        if datatype != self.wire:
            return f"datatype is {quoted(datatype)}, must be {self.wire}"
        if len(shape) != len(self.shape):
            return f"has {len(shape)} dimensions, must have {len(self.shape)}: {self.shape_text}"
        if not 1 <= shape[0] <= max_rows:
            return f"has {shape[0]} rows, must have 1 to {max_rows}; split a larger batch"
        return f"shape is {list(shape)}, must be {self.shape_text}"

    @property
    def shape_text(self) -> str:
        """The shape in readable form, for example `[rows, 28, 28]`."""
        return "[" + ", ".join(["rows", *map(str, self.row_shape)]) + "]"

    def check_values(self, tensor: Tensor) -> None:
        """Refuse infinities, NaN where the model does not allow it, and BYTES elements that are too long."""
        if self.holds_bytes:
            longest = max(map(len, tensor.flat), default=0)
            if longest > self.max_bytes:
                raise InvalidRequest(
                    f"input {quoted(self.name)}: an element has {longest} bytes, at most {self.max_bytes} are allowed."
                )
        elif (row := self.forbidden_row(tensor)) is not None:
            raise InvalidRequest(f"input {quoted(self.name)}: row {row} {self.forbidden}.")

    @property
    def forbidden(self) -> str:
        """What is wrong with a row that holds a forbidden number."""
        kind = "an infinity" if self.allow_nan else "NaN or an infinity"
        return f"holds {kind}, which this model does not accept"

    def forbidden_row(self, tensor: Tensor) -> int | None:
        """Return the first row with a number that is not allowed: an infinity, or NaN without `allow_nan`."""
        if not self.is_float:
            return None
        # One number is the common case, and a fifth of the cost this way.
        if math.isfinite(tensor.item()) if tensor.size == 1 else np.isfinite(tensor).all():
            return None
        forbidden = np.isinf(tensor) if self.allow_nan else ~np.isfinite(tensor)
        return int(np.argwhere(forbidden)[0][0]) if forbidden.any() else None


def row_bytes(spec: TensorSpec) -> int:
    """Return the bytes of one row in the largest message that holds it, raw or typed."""
    if spec.datatype.holds_bytes:
        return spec.row_elements * (spec.max_bytes + 8)
    # A negative integer's varint has 10 bytes.
    return spec.row_elements * (spec.datatype.dtype.itemsize if spec.datatype.is_float else 10)


@dataclass(frozen=True)
class Signature:
    """Declare the inputs, outputs and maximum rows of a call."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_rows: int

    def input(self, name: str) -> TensorSpec:
        """Return the declaration of one input.

        :raises InvalidRequest: there is no such input
        """
        spec = self._by_name.get(name)
        if spec is None:
            raise InvalidRequest(f"input {quoted(name)} is unknown; the inputs are {names(self.inputs)}.")
        return spec

    @cached_property
    def _by_name(self) -> Mapping[str, TensorSpec]:
        return {spec.name: spec for spec in self.inputs}

    @cached_property
    def outputs_by_name(self) -> Mapping[str, TensorSpec]:
        """The declarations of the outputs."""
        return {spec.name: spec for spec in self.outputs}

    def check_inputs(self, tensors: Tensors) -> int:
        """Refuse a batch that is incomplete or holds forbidden values; return the number of rows.

        Each tensor has its declared datatype and shape: the transport calls `check_declared` before it builds one.
        """
        for name in tensors:
            self.input(name)
        rows = None
        for spec in self.inputs:
            tensor = tensors.get(spec.name)
            if tensor is None:
                raise InvalidRequest(f"input {quoted(spec.name)} is missing; the inputs are {names(self.inputs)}.")
            if rows is not None and len(tensor) != rows:
                raise InvalidRequest(
                    f"input {quoted(spec.name)}: has {len(tensor)} rows, the inputs before it have {rows}."
                )
            rows = len(tensor)
        for spec in self.inputs:
            spec.check_values(tensors[spec.name])
        return rows or 0

    def check_outputs(self, tensors: Tensors, rows: int) -> str | None:
        """Return the fault of a model's output, or None."""
        for spec in self.outputs:
            tensor = tensors.get(spec.name)
            if tensor is None:
                return f"output {spec.name} is missing"
            if tensor.dtype != spec.dtype or tensor.shape != (rows, *spec.row_shape):
                return f"output {spec.name} is {tensor.dtype}{list(tensor.shape)} for {rows} rows of {spec.shape_text}"
            if spec.forbidden_row(tensor) is not None:
                return f"output {spec.name} holds NaN or an infinity"
        return None

    def choose_outputs(self, wanted: Sequence[str]) -> tuple[TensorSpec, ...]:
        """Return the declarations of the outputs asked for; none asked for means all."""
        if not wanted:
            return self.outputs
        known = self.outputs_by_name
        for name in wanted:
            if name not in known:
                raise InvalidRequest(f"output {quoted(name)} is unknown; the outputs are {names(self.outputs)}.")
        if len(set(wanted)) != len(wanted):
            raise InvalidRequest("outputs: the same output is asked for twice.")
        return tuple(known[name] for name in wanted)


def names(specs: Sequence[TensorSpec]) -> str:
    """List the names of tensors for a message."""
    return ", ".join(spec.name for spec in specs) or "none"
