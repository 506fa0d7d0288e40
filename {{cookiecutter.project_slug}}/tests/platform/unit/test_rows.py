from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from serving.domain.errors import OperatorError
from serving.domain.features import Derived, Entity, Feature, FeatureSet, Missing, Operation
from serving.domain.tensors import Datatype
from serving.modeling import Dataset, History
from serving.offline.rows import check_history, prepared

FEATURES = FeatureSet(
    Entity("key"),
    (Feature("city", datatype=Datatype.TEXT, default="Bern"),),
    (
        Feature("age"),
        Feature("visits", datatype=Datatype.INT8),
        Feature("size", shape=(2,)),
        Feature("dose", allow_nan=True),
    ),
    (Derived("age_by_dose", Operation.MULTIPLY, "age", "dose"),),
)
COLUMNS: dict[str, Any] = {
    "city": np.array(["Bern", "Basel"]),
    "age": np.array([41, 52]),
    "visits": np.array([3, 4]),
    "size": np.array([[1.0, 2.0], [3.0, 4.0]]),
    "dose": np.array([0.5, np.nan]),
}
DATA = Dataset(("a", "b"), np.array([10, 20]), COLUMNS, np.array(["yes", "no"]))


def with_column(name: str, values: Any) -> Dataset:
    return replace(DATA, columns={**COLUMNS, name: np.asarray(values)})


def refusal(data: Dataset) -> str:
    with pytest.raises(OperatorError) as refused:
        prepared(data, FEATURES)
    return str(refused.value)


def test_columns_get_the_declared_types_and_order_and_derived_ones_come_last() -> None:
    data = prepared(replace(DATA, columns=dict(reversed(COLUMNS.items()))), FEATURES)
    assert list(data.columns) == ["city", "age", "visits", "size", "dose", "age_by_dose"]
    assert [data.columns[name].dtype.str for name in ("age", "visits", "size")] == ["<f4", "|i1", "<f4"]
    assert data.columns["city"].tolist() == ["Bern", "Basel"]
    np.testing.assert_array_equal(data.columns["age_by_dose"], np.array([20.5, np.nan], np.float32))


def test_a_frame_has_a_column_per_value_and_keeps_types() -> None:
    frame = prepared(DATA, FEATURES).frame()
    assert list(frame.columns) == ["city", "age", "visits", "size_0", "size_1", "dose", "age_by_dose"]
    assert [frame[name].dtype.kind for name in ("city", "age", "visits", "size_1")] == ["O", "f", "i", "f"]
    assert frame["size_1"].tolist() == [2.0, 4.0]


def test_a_dataset_is_made_from_a_data_frame_as_it_is() -> None:
    frame = pd.DataFrame(
        {
            "id": [7, 8],
            "seen": pd.to_datetime(["1970-01-01T00:00:10", "1970-01-02T00:00:00"]),
            "age": [41.0, 52.0],
            "city": ["Bern", "Chur"],
            "bought": [True, False],
        }
    )
    data = Dataset(frame["id"], frame["seen"], {"age": frame["age"], "city": frame["city"]}, frame["bought"])
    assert (data.entities, data.times.tolist(), data.target.tolist()) == (("7", "8"), [10, 86_400], [True, False])
    assert History(frame["id"], frame["seen"], {"city": frame["city"]}).columns["city"].tolist() == ["Bern", "Chur"]
    features = FeatureSet(Entity("id"), (), (Feature("age"), Feature("city", datatype=Datatype.TEXT)))
    assert prepared(data, features).frame()["city"].tolist() == ["Bern", "Chur"]


@pytest.mark.parametrize("times", [["1970-01-01"], [1.5], [None], np.array(["NaT"], "datetime64[s]")])
def test_times_that_are_no_times_are_refused(times: Any) -> None:
    with pytest.raises(ValueError, match="must be seconds since 1970 or datetime64 without a zone, none missing"):
        History(("a",), times, {})


def test_a_split_has_every_row_once_and_is_the_same_for_the_same_seed() -> None:
    keys = tuple(f"{row}" for row in range(10))
    data = Dataset(keys, np.arange(10), {"age": np.arange(10)}, np.arange(10))
    train, test = data.split(test_share=0.3, seed=1)
    assert (len(train), len(test)) == (7, 3)
    assert sorted((*train.entities, *test.entities)) == sorted(keys)
    for part in (train, test):
        assert (
            part.target.tolist() == part.times.tolist() == part.columns["age"].tolist() == list(map(int, part.entities))
        )
    assert data.split(test_share=0.3, seed=1)[0].entities == train.entities
    assert data.split(test_share=0.3, seed=2)[0].entities != train.entities


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("age", [[1], [2]], "column 'age' has the shape [2, 1], must be [2] by model/features.py."),
        ("size", [1, 2], "column 'size' has the shape [2], must be [2, 2] by model/features.py."),
        ("age", [1, 2, 3], "column 'age' has the shape [3], must be [2] by model/features.py."),
        (
            "age",
            ["1", "2"],
            "column 'age' holds text such as '1', and is declared FP32; declare datatype=Datatype.TEXT",
        ),
        (
            "visits",
            [1.5, 2],
            "column 'visits' holds numbers such as '1.5', and is declared INT8; declare datatype=Datatype.FP32",
        ),
        ("visits", [1, 200], "column 'visits' holds numbers that INT8 can't hold; declare Datatype.INT64."),
        ("city", [1, 2], "column 'city' holds '1' in row 0, and is declared TEXT; convert the column to str"),
        ("city", np.array(["x", None], object), "column 'city' holds 'None' in row 1"),
        ("city", np.array([b"x", b"y"], object), "column 'city' holds bytes in row 0; decode them to str"),
        (
            "age",
            [1, np.nan],
            "column 'age' holds NaN in row 1; fill it, or declare allow_nan=True if the model handles NaN.",
        ),
        ("dose", [np.inf, 1], "column 'dose' holds an infinity in row 0; replace it."),
        ("weight", [1, 2], "returns a column 'weight' that model/features.py does not declare"),
    ],
)
def test_a_column_that_does_not_fit_is_refused_in_one_sentence(column: str, values: Any, message: str) -> None:
    said = refusal(with_column(column, values))
    assert said.startswith("model/data.py: load()")
    assert message in said


def test_a_missing_column_is_named_with_the_one_that_was_probably_meant() -> None:
    columns = {name: values for name, values in COLUMNS.items() if name != "visits"}
    assert refusal(replace(DATA, columns={**columns, "Visit": COLUMNS["visits"]})) == (
        "model/data.py: load() returns no column 'visits', which model/features.py declares; it has 'Visit'."
    )


def test_bytes_are_declared_as_text() -> None:
    features = FeatureSet(Entity("key"), (), (Feature("city", datatype=Datatype.BYTES),))
    with pytest.raises(OperatorError, match="feature 'city' is declared BYTES, and ONNX has text instead"):
        prepared(replace(DATA, columns={"city": np.array([b"a", b"b"], object)}), features)


def test_rows_of_unequal_number_and_a_missing_target_are_refused() -> None:
    assert "returns 2 entities and 1 times" in refusal(replace(DATA, times=np.array([1])))
    assert "returns 2 entities and 3 target" in refusal(replace(DATA, target=np.zeros(3)))
    assert "the target of row 1 is NaN; leave out the rows" in refusal(replace(DATA, target=np.array([1, np.nan])))
    assert "returns no rows" in refusal(Dataset((), np.array([], int), {}, np.array([])))


def test_a_history_gets_the_declared_types_of_its_static_features() -> None:
    past = History(("a", "b"), np.array([1, 2]), {"city": np.array(["Bern", "Basel"])})
    assert check_history(past, FEATURES).columns["city"].dtype == object
    with pytest.raises(OperatorError, match=r"model/data.py: history\(\): column 'city' holds '1' in row 0"):
        check_history(replace(past, columns={"city": np.array([1, 2])}), FEATURES)


def test_what_was_not_known_yet_is_the_default_or_nan_or_refused() -> None:
    city, dose = FEATURES.static[0], Feature("dose", allow_nan=True, missing=Missing.NAN)
    past = History(("a",), np.array([15]), {"city": np.array(["Chur"], object), "dose": np.array([1.0])})
    known = past.known_at(("a", "a"), np.array([10, 20]), (city, dose))
    assert known["city"].tolist() == ["Bern", "Chur"]
    np.testing.assert_array_equal(known["dose"], [np.nan, 1.0])
    with pytest.raises(ValueError, match="city is not known of a at its time, and has no default"):
        past.known_at(("a",), np.array([10]), (replace(city, default=None),))
