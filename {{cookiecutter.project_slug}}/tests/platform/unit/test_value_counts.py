from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.domain.distributions import Distribution, Distributions
from serving.domain.features import Feature
from serving.domain.references import Reference
from serving.domain.tensors import ROWS, Datatype, Tensor, TensorSpec
from serving.online.value_counts import ValueCounts

SERVED = Reference("local", "tiny", "7", "sha256=00")
NUMBERS = Distribution((0.0, 0.5, 0.5, 0.0), (1.0, 2.0))
COLORS = Distribution((0.75, 0.2, 0.05), categories=("red", "blue"))
ANSWER = TensorSpec("y", Datatype.FP32)
ANY = st.one_of(st.floats(width=32), st.sampled_from([1.0, 2.0, math.nan]))


def counted(counts: ValueCounts, kind: str = "input") -> list[float]:
    """Return the rows in each bin."""
    values = next(metric for metric in counts.collect() if metric.name == "serving_values")
    return [sample.value for sample in values.samples if sample.labels["kind"] == kind]


def counts_of(feature: Feature, distribution: Distribution) -> ValueCounts:
    return ValueCounts(SERVED, [feature], [ANSWER], Distributions({feature.name: distribution}))


def count(counts: ValueCounts, values: Tensor) -> None:
    counts.count(len(values), {"x": values}, {"y": np.zeros(len(values), np.float32)})


@pytest.mark.parametrize("rows", [1, 3, 200])
def test_each_row_is_counted_in_its_bin_however_many_come_together(rows: int) -> None:
    counts = counts_of(Feature("x"), NUMBERS)
    for value in (0.5, 1.0, 1.5, 2.0, 9.0, math.nan):
        count(counts, np.full(rows, value, np.float32))
    assert counted(counts) == [rows, 2 * rows, 2 * rows, rows]


@given(st.lists(ANY, min_size=1, max_size=100))
def test_rows_count_the_same_together_and_one_by_one(values: list[float]) -> None:
    together, single = counts_of(Feature("x"), NUMBERS), counts_of(Feature("x"), NUMBERS)
    rows = np.array(values, np.float32)
    count(together, rows)
    for row in range(len(rows)):
        count(single, rows[row : row + 1])
    assert counted(together) == counted(single)
    assert sum(counted(single)) == len(rows)


def test_text_that_training_did_not_know_is_counted_as_other() -> None:
    counts = counts_of(Feature("x", datatype=Datatype.TEXT), COLORS)
    count(counts, np.array([b"red", b"green", b"\xff", b"blue", b"red"], object))
    count(counts, np.array([b"red"], object))
    assert counted(counts) == [3, 1, 2]


def test_an_array_counts_by_its_mean_and_the_array_of_an_output_by_its_largest_number() -> None:
    spec = TensorSpec("y", Datatype.FP32, (ROWS, 2))
    counts = ValueCounts(SERVED, [Feature("x", shape=(2,))], [spec], Distributions({"x": NUMBERS}, {"y": NUMBERS}))
    rows = np.array([[0.0, 3.0]], np.float32)
    counts.count(1, {"x": rows}, {"y": rows})
    assert (counted(counts), counted(counts, "output")) == ([0, 1, 0, 0], [0, 0, 1, 0])


def test_an_output_with_the_name_of_an_input_is_counted_apart() -> None:
    both = Distributions({"x": NUMBERS}, {"x": NUMBERS})
    counts = ValueCounts(SERVED, [Feature("x")], [replace(ANSWER, name="x")], both)
    counts.count(1, {"x": np.zeros(1, np.float32)}, {"x": np.ones(1, np.float32)})
    assert (counted(counts), counted(counts, "output")) == ([1, 0, 0, 0], [0, 1, 0, 0])


def test_beside_the_counts_are_the_shares_of_training_with_the_same_labels() -> None:
    counts = counts_of(Feature("x"), NUMBERS)
    count(counts, np.ones(3, np.float32))
    rows, values, shares = counts.collect()
    assert [(sample.value, sample.labels) for sample in rows.samples] == [(3, {"model": "tiny", "version": "7"})]
    assert [sample.value for sample in shares.samples] == list(NUMBERS.shares)
    assert [sample.labels for sample in values.samples] == [sample.labels for sample in shares.samples]
    assert values.samples[1].labels == {
        "model": "tiny",
        "version": "7",
        "kind": "input",
        "name": "x",
        "bin": "01 from 1",
    }


@pytest.mark.parametrize(
    "unfit",
    [
        Distributions(),
        Distributions({"unknown": NUMBERS}, {"x": NUMBERS}),
        Distributions({"x": COLORS}, {"y": COLORS}),
    ],
)
def test_a_version_without_fitting_distributions_counts_rows_only(unfit: Distributions) -> None:
    counts = ValueCounts(SERVED, [Feature("x")], [ANSWER], unfit)
    count(counts, np.ones(3, np.float32))
    rows, values, shares = counts.collect()
    assert [sample.value for sample in rows.samples] == [3]
    assert values.samples == shares.samples == []
