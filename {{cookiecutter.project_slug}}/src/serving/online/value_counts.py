"""How the values that the model sees and gives are spread, counted in the bins of its training data.

A request adds to lists of numbers; metrics are made of them when they are read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from math import inf

import numpy as np
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.domain.distributions import Distribution, Distributions, places, row_numbers
from serving.domain.features import Feature
from serving.domain.references import Reference
from serving.domain.tensors import Tensor, Tensors, TensorSpec

_FEW_ROWS = 32  # up to here, bisecting each number is faster than NumPy's calls
_SERVED = ("model", "version")
_LABELS = (*_SERVED, "kind", "name", "bin")
_ROWS = ("serving_rows", "Rows answered by the model.")
_VALUES = ("serving_values", "Rows by the bin of a value.")
_SHARES = ("serving_values_trained_share", "Share of the training rows in a bin.")


class _Column:
    """Count one number or text per row."""

    def __init__(self, kind: str, spec: TensorSpec, distribution: Distribution) -> None:
        self.kind = kind
        self.spec = spec
        self.distribution = distribution
        self.counts = [0] * len(distribution.shares)
        self.bounds = [*distribution.edges, inf]
        self._known = {name.encode(): place for place, name in enumerate(distribution.categories)}

    def count(self, tensor: Tensor) -> None:
        """Count rows, whatever their number."""
        counts = self.counts
        if self._known:
            for value in tensor.tolist():
                counts[self._known.get(value, -1)] += 1
        elif len(tensor) <= _FEW_ROWS and not self.spec.row_shape:
            for value in tensor.tolist():
                counts[bisect_right(self.bounds, value)] += 1
        else:
            numbers = row_numbers(self.spec, tensor, output=self.kind == "output")
            found = np.bincount(places(self.distribution.edges, numbers), minlength=len(counts))
            for place, number in enumerate(found.tolist()):
                counts[place] += number


class ValueCounts(Collector):
    """Count the rows of one version, and its inputs and outputs where it has their distributions.

    All labels come from the version, so no caller can add one.
    """

    def __init__(
        self,
        served: Reference,
        features: Sequence[Feature],
        outputs: Sequence[TensorSpec],
        distributions: Distributions,
    ) -> None:
        self._served = (served.model, served.version)
        self._rows = 0
        inputs = [feature.spec for feature in features]
        self._inputs = _columns("input", inputs, distributions.inputs)
        self._outputs = _columns("output", outputs, distributions.outputs)

    def count(self, rows: int, inputs: Tensors, outputs: Tensors) -> None:
        """Count the rows of one model call."""
        self._rows += rows
        for columns, tensors in ((self._inputs, inputs), (self._outputs, outputs)):
            for name, bounds, column in columns:
                tensor = tensors[name]
                if tensor.size == 1 and bounds:  # the common case
                    column.counts[bisect_right(bounds, tensor.item())] += 1
                else:
                    column.count(tensor)

    def collect(self) -> Iterator[Metric]:
        """Yield the counts, and beside them the shares of the training rows."""
        rows = CounterMetricFamily(*_ROWS, labels=_SERVED)
        values = CounterMetricFamily(*_VALUES, labels=_LABELS)
        shares = GaugeMetricFamily(*_SHARES, labels=_LABELS)
        rows.add_metric(self._served, self._rows)
        for _, _, column in (*self._inputs, *self._outputs):
            known = column.distribution
            for name, count, share in zip(known.names, column.counts, known.shares, strict=True):
                labels = (*self._served, column.kind, column.spec.name, name)
                values.add_metric(labels, count)
                shares.add_metric(labels, share)
        return iter((rows, values, shares))


def _columns(
    kind: str, specs: Sequence[TensorSpec], known: Mapping[str, Distribution]
) -> list[tuple[str, list[float], _Column]]:
    """Return name, bounds of numbers and column of each declared tensor that has a fitting distribution."""
    found = []
    for spec in specs:
        if (distribution := known.get(spec.name)) and bool(distribution.categories) == spec.holds_bytes:
            column = _Column(kind, spec, distribution)
            found.append((spec.name, [] if spec.holds_bytes else column.bounds, column))
    return found
