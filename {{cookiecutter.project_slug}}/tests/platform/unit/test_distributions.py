from __future__ import annotations

import math

import numpy as np
import pytest

from serving.domain.distributions import Distribution, describe
from serving.domain.tensors import ROWS, Datatype, Tensor, TensorSpec


def described(values: Tensor, spec: TensorSpec, *, outputs: bool = False) -> Distribution | None:
    return describe([spec], {spec.name: values}, outputs=outputs).get(spec.name)


def of_numbers(values: object, datatype: Datatype = Datatype.FP32) -> Distribution:
    found = described(np.asarray(values, datatype.dtype), TensorSpec("x", datatype))
    assert found is not None
    return found


def of_text(values: list[bytes]) -> Distribution | None:
    return described(np.array(values, object), TensorSpec("x", Datatype.TEXT))


def test_numbers_are_divided_into_ten_bins_of_equal_shares() -> None:
    found = of_numbers(np.arange(1000))
    assert found.edges == pytest.approx([99.9 + 99.9 * place for place in range(9)])
    assert found.shares == (*[0.1] * 10, 0.0)


def test_a_few_different_numbers_have_a_bin_each() -> None:
    found = of_numbers([1, 2] * 100, Datatype.INT64)
    assert (found.edges, found.shares) == ((1.0, 2.0), (0.0, 0.5, 0.5, 0.0))
    assert found.names == ("00 below 1", "01 from 1", "02 from 2", "NaN")


def test_nan_has_its_own_bin_and_moves_no_edge() -> None:
    found = of_numbers([math.nan] * 100 + [1.0, 2.0] * 50)
    assert (found.edges, found.shares) == ((1.0, 2.0), (0.0, 0.25, 0.25, 0.5))


def test_a_number_that_is_frequent_gives_fewer_bins() -> None:
    found = of_numbers([0.0] * 900 + list(range(1, 101)))
    assert len(found.edges) < 9
    assert found.shares[:2] == (0.0, 0.9)


def test_there_are_at_least_20_rows_for_each_bin() -> None:
    assert len(of_numbers(np.arange(80.0)).edges) == 3
    assert described(np.arange(39.0), TensorSpec("x", Datatype.FP64)) is None


def test_an_array_counts_by_its_mean_and_the_array_of_an_output_by_its_largest_number() -> None:
    spec = TensorSpec("x", Datatype.FP32, (ROWS, 2))
    values = np.stack([np.zeros(100), np.arange(100)], axis=1).astype(np.float32)
    given, answered = described(values, spec), described(values, spec, outputs=True)
    assert given is not None
    assert answered is not None
    assert [2 * edge for edge in given.edges] == pytest.approx(answered.edges)


def test_text_has_a_bin_for_each_frequent_value_and_one_for_all_others() -> None:
    found = of_text([b"red"] * 150 + [b"blue"] * 49 + [b"jane.doe@example.org"])
    assert found is not None
    assert (found.categories, found.shares) == (("red", "blue"), (0.75, 0.245, pytest.approx(0.005)))
    assert found.names == ("is red", "is blue", "other")


@pytest.mark.parametrize(
    "values", [[b"%d" % row for row in range(500)], [b"\xff"] * 500, [b"a"] * 39, [b"a" * 65] * 99]
)
def test_what_has_no_frequent_short_text_is_not_counted(values: list[bytes]) -> None:
    assert of_text(values) is None


def test_at_most_20_categories_are_known_the_most_frequent_ones() -> None:
    found = of_text([b"%02d" % value for value in range(30) for _ in range(30 - value)])
    assert found is not None
    assert found.categories == tuple(f"{value:02}" for value in range(20))


@pytest.mark.parametrize(
    "wrong",
    [
        {"shares": (0.5, 0.5), "edges": (1.0,)},
        {"shares": (0.5, 0.5, 0.0, 0.0), "edges": (2.0, 1.0)},
        {"shares": (0.5, 0.5, 0.0), "edges": (math.inf,)},
        {"shares": (1.5, 0.5, 0.0), "edges": (1.0,)},
        {"shares": (math.nan, 0.5, 0.0), "edges": (1.0,)},
        {"shares": (0.5, 0.5, 0.0), "categories": ("a", "a")},
        {"shares": (0.5, 0.5), "categories": ("a" * 65,)},
        {"shares": (0.0,) * 65, "categories": tuple(map(str, range(64)))},
    ],
)
def test_what_is_no_distribution_is_refused(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match=r"shares|share|edges|categories"):
        Distribution(**wrong)  # type: ignore[arg-type]
