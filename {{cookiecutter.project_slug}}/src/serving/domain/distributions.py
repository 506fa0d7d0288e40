"""Distributions: how the values of each input and output were spread in training, in bins with fixed bounds.

They belong to the lineage: they show how traffic differs from training, and no answer depends on them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from serving.domain.tensors import Tensor, Tensors, TensorSpec

MAX_BINS = 64
LEAST_SHARE = 0.0001
"""A smaller share counts as this one in `drift`, which an empty bin would make infinite."""

_BINS, _CATEGORIES = 10, 20
_ROWS_PER_BIN = 20  # with fewer, chance alone looks like drift
_CATEGORY_SHARE = 0.01  # a rarer value may identify a person
_MAX_NAME = 64


@dataclass(frozen=True)
class Distribution:
    """Divide values into bins, each with its share of the training rows.

    Numbers have a bin below the first edge, one from each edge to the next, and one for NaN. Text has a bin for each
    known category, and one for all other values.
    """

    shares: tuple[float, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        bins = len(self.categories) + 1 if self.categories else len(self.edges) + 2
        if bins != len(self.shares) or bins > MAX_BINS:
            raise ValueError(f"there are {len(self.shares)} shares for {bins} bins; at most {MAX_BINS} are allowed")
        if not all(0 <= share <= 1 for share in self.shares):
            raise ValueError("each share must be between 0 and 1")
        if not all(map(math.isfinite, self.edges)) or not all(low < high for low, high in pairwise(self.edges)):
            raise ValueError("edges must be finite and increase")
        if len(set(self.categories)) < len(self.categories) or any(len(n) > _MAX_NAME for n in self.categories):
            raise ValueError(f"categories must differ, and have at most {_MAX_NAME} characters")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the bins; sorted as text, those of numbers are in order."""
        if self.categories:
            return (*(f"is {name}" for name in self.categories), "other")
        shown = [f"{edge:.9g}" for edge in self.edges]
        ranges = ["any", *(f"from {edge}" for edge in shown)]
        if shown:
            ranges[0] = f"below {shown[0]}"
        return (*(f"{place:02} {text}" for place, text in enumerate(ranges)), "NaN")


@dataclass(frozen=True)
class Distributions:
    """Hold the distributions of a model's inputs and outputs by name; some may have none."""

    inputs: Mapping[str, Distribution] = field(default_factory=dict)
    outputs: Mapping[str, Distribution] = field(default_factory=dict)


def describe(specs: Sequence[TensorSpec], tensors: Tensors, *, outputs: bool) -> dict[str, Distribution]:
    """Return the distribution of each tensor for which there are enough rows or frequent categories."""
    found = {}
    for spec in specs:
        tensor = tensors[spec.name]
        if not spec.holds_bytes:
            distribution = _of_numbers(row_numbers(spec, tensor, output=outputs))
        elif not spec.row_shape:
            distribution = _of_text(tensor)
        else:
            distribution = None
        if distribution is not None:
            found[spec.name] = distribution
    return found


def row_numbers(spec: TensorSpec, tensor: Tensor, *, output: bool) -> npt.NDArray[np.float64]:
    """Return one number per row: of an array its mean, or, in an output, its largest number.

    The probabilities of all classes always have the same mean; the largest shows how certain the model is.
    """
    values = tensor.astype(np.float64)
    if not spec.row_shape:
        return values
    wide = values.reshape(len(values), -1)
    found: npt.NDArray[np.float64] = wide.max(axis=1) if output else wide.mean(axis=1)
    return found


def places(edges: Sequence[float], values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the bin of each number; NaN is greater than all others."""
    return np.searchsorted(np.array([*edges, math.inf]), values, side="right")


def _of_numbers(values: npt.NDArray[np.float64]) -> Distribution | None:
    bins = min(_BINS, len(values) // _ROWS_PER_BIN)
    if bins < 2:
        return None
    present = values[~np.isnan(values)]
    different = np.unique(present)
    if different.size > bins:
        different = np.unique(np.quantile(present, np.arange(1, bins) / bins))
    edges = tuple(different.tolist())
    counted = np.bincount(places(edges, values), minlength=len(edges) + 2)
    return Distribution(tuple((counted / len(values)).tolist()), edges)


def _of_text(values: Tensor) -> Distribution | None:
    least = max(2, _CATEGORY_SHARE * len(values))
    if len(values) < 2 * _ROWS_PER_BIN:
        return None
    counted = Counter(values.tolist())
    known = {}
    for value, count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:_CATEGORIES]:
        if count >= least and (name := category(value)) is not None:
            known[name] = count / len(values)
    if not known:
        return None
    return Distribution((*known.values(), max(0.0, 1 - sum(known.values()))), categories=tuple(known))


def category(value: bytes) -> str | None:
    """Return a category's name; None for what is no short text."""
    try:
        name = value.decode()
    except UnicodeDecodeError:
        return None
    return name if len(name) <= _MAX_NAME and name.isprintable() else None


def drift(trained: Sequence[float], counts: Sequence[float]) -> float:
    """Return the population stability index of some rows: 0 if they are spread as in training; 0.25 is a clear change.

    `monitoring/recording.yml` computes the same.
    """
    rows = sum(counts)
    now = [max(count / rows, LEAST_SHARE) for count in counts]
    then = [max(share, LEAST_SHARE) for share in trained]
    return sum((new - old) * math.log(new / old) for new, old in zip(now, then, strict=True))
