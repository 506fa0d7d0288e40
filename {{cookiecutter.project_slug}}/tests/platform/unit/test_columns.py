"""The rows of an import: their types, and the names of their columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.domain.errors import OperatorError
from serving.domain.tensors import Datatype
from serving.offline.columns import Matrix, described, feature_set, read_rows


def written(folder: Path, text: str) -> Path:
    path = folder / "rows.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_numbers_are_fp32_anything_else_is_text_and_an_empty_cell_among_numbers_is_missing(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path, "\ufeffage,code,town,height\n1,07,Oslo,\n2,08,,1.5\n"), ["code"])
    features = {feature.name: feature for feature in feature_set(described(rows)).real_time}
    assert rows["age"].dtype == rows["height"].dtype == np.float32
    assert (rows["code"].tolist(), rows["town"].tolist()) == (["07", "08"], ["Oslo", ""])
    assert np.isnan(rows["height"]).tolist() == [True, False]
    assert {name: (feature.datatype, feature.allow_nan) for name, feature in features.items()} == {
        "age": (Datatype.FP32, False),
        "code": (Datatype.TEXT, False),
        "town": (Datatype.TEXT, False),
        "height": (Datatype.FP32, True),
    }


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e39"])
def test_a_number_that_fp32_does_not_hold_is_refused(tmp_path: Path, cell: str) -> None:
    with pytest.raises(OperatorError, match=rf"rows.csv: column 'b' holds '{cell}' in row 1, which FP32 can't hold"):
        read_rows(written(tmp_path, f"a,b\n1,2\n3,{cell}\n"))


def test_a_text_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"rows.csv: has no column 'c', which --text names\."):
        read_rows(written(tmp_path, "a,b\n1,2\n"), ["c"])


def test_a_title_becomes_a_name_like_it_and_the_feature_keeps_the_title() -> None:
    names = {
        "mean radius": "mean_radius",
        "mean.radius": "mean_radius_2",
        "mean_radius_2": "mean_radius_2_2",
        "1st": "column_1st",
        "_": "column",
        "": "column_2",
        "Größe (mm)": "Groe_mm",
        "row": "row_2",
        "prediction": "prediction_2",
        "valid_Name1": "valid_Name1",
    }
    found = described({title: np.zeros(1, np.float32) for title in names})
    names |= {"mean.radius": "mean_radius_3", "mean_radius_2": "mean_radius_2"}  # a valid title keeps its name
    assert {column.title: column.name for column in found} == names
    assert {column.name: column.feature.description for column in found} == {
        name: "" if name == title else title for title, name in names.items()
    }


@given(st.lists(st.text(max_size=80), unique=True, max_size=20))
def test_any_titles_become_a_feature_set_with_as_many_names(titles: list[str]) -> None:
    features = feature_set(described({title: np.zeros(1, np.float32) for title in titles}))
    assert len({feature.name for feature in features.real_time}) == len(titles)


def test_all_columns_can_be_one_matrix(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path, "body mass,age\n0.1,\n2,3\n"), (), Datatype.FP64)
    assert rows["body mass"].tolist() == [0.1, 2.0]
    (feature,) = feature_set(described(rows), Matrix.parse("input-0:FP64")).real_time
    assert (feature.name, feature.datatype, feature.shape, feature.allow_nan) == ("input-0", Datatype.FP64, (2,), True)
    assert feature.description == "body mass, age"
    assert Matrix.parse("predict") == Matrix.parse(str(Matrix("predict")))


@pytest.mark.parametrize("text", ["", "a b", "x:FP16", "x:", ":FP32", "row", "x:FP64:FP64"])
def test_a_matrix_without_a_valid_name_and_datatype_is_refused(text: str) -> None:
    with pytest.raises(OperatorError, match=r"--matrix '.*': write the name of the input .* FP32, FP64\.$"):
        Matrix.parse(text)
