from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from serving.domain.features import Derived, Entity, Feature, FeatureSet, Missing, Operation
from serving.domain.tensors import Datatype

AGE = Feature("age", "years", default=50.0)
CITY = Feature("city", datatype=Datatype.BYTES, default="Bern")
WEIGHT = Feature("weight", "kg", "Body weight")
FEATURES = FeatureSet(Entity("patient", "Key"), (AGE, CITY), (WEIGHT,))


@pytest.mark.parametrize("name", ["", "1st", "a/b", "a b", 'a"', "a;drop table", "é", "x" * 64])
def test_names_that_no_server_takes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="feature name"):
        Feature(name)


def test_names_must_differ_from_each_other_and_from_the_entity() -> None:
    with pytest.raises(ValueError, match="declared twice: age, patient"):
        FeatureSet(Entity("patient"), (AGE, Feature("patient")), (AGE,))


@pytest.mark.parametrize("name", ["input-0", "input.1"])
def test_a_name_from_another_server_is_for_features_that_callers_send(name: str) -> None:
    assert FeatureSet(Entity("patient"), (), (Feature(name),)).model_inputs[0].name == name
    with pytest.raises(ValueError, match=rf"static feature {name}: no store takes"):
        FeatureSet(Entity("patient"), (Feature(name),), ())


def test_an_output_with_the_name_of_an_input_has_another_in_the_graph() -> None:
    assert FEATURES.graph_output("weight") == "weight/output"
    assert FEATURES.graph_output("patient") == "patient"


def test_a_static_feature_must_be_storable() -> None:
    words = Feature("words", datatype=Datatype.BYTES, shape=(2,))
    with pytest.raises(ValueError, match="static feature words: no store keeps arrays of text or BYTES"):
        FeatureSet(Entity("patient"), (words,), ())
    assert FeatureSet(Entity("patient"), (), (words,)).model_inputs == (words,)


def test_the_model_takes_static_features_first() -> None:
    assert [feature.name for feature in FEATURES.model_inputs] == ["age", "city", "weight"]


def test_callers_send_the_key_instead_of_the_features_from_the_store() -> None:
    assert [spec.name for spec in FEATURES.request_inputs((AGE, CITY))] == ["patient", "weight"]
    assert [spec.name for spec in FEATURES.request_inputs((AGE,))] == ["patient", "city", "weight"]


def test_without_a_store_callers_send_every_feature_and_no_key() -> None:
    assert [spec.name for spec in FEATURES.request_inputs(())] == ["age", "city", "weight"]


def test_an_input_has_the_name_unit_and_description_of_its_feature() -> None:
    spec = WEIGHT.spec
    assert (spec.name, spec.datatype, spec.shape) == ("weight", Datatype.FP32, (-1,))
    assert (spec.unit, spec.description) == ("kg", "Body weight")


def test_an_array_has_its_shape_behind_the_rows() -> None:
    assert Feature("image", shape=(28, 28)).spec.shape == (-1, 28, 28)


def test_a_default_is_an_element_of_the_features_tensor() -> None:
    assert (AGE.default_value, CITY.default_value, WEIGHT.default_value) == (50.0, b"Bern", None)


@pytest.mark.parametrize(
    ("datatype", "default"),
    [
        (Datatype.INT64, 1.7),
        (Datatype.INT8, 128),
        (Datatype.UINT8, -1),
        (Datatype.INT64, float("inf")),
        (Datatype.FP16, 1e6),
        (Datatype.FP32, 1e39),
        (Datatype.FP32, float("nan")),
        (Datatype.FP32, "50"),
        (Datatype.BOOL, 2),
        (Datatype.TEXT, 7),
        (Datatype.BYTES, 7.0),
    ],
)
def test_a_default_that_its_datatype_does_not_have_is_refused_with_the_declaration(
    datatype: Datatype, default: Any
) -> None:
    with pytest.raises(ValueError, match=rf"^feature x: default is .*, which {datatype} can't hold$"):
        Feature("x", datatype=datatype, default=default)


@pytest.mark.parametrize(
    ("datatype", "default"),
    [(Datatype.INT64, 2**53 + 1), (Datatype.UINT64, 2**64 - 1), (Datatype.BOOL, True), (Datatype.FP16, 0.1)],
)
def test_a_default_survives_the_manifest_to_the_last_digit(datatype: Datatype, default: Any) -> None:
    adapter = TypeAdapter(Feature)
    kept = adapter.validate_json(adapter.dump_json(Feature("x", datatype=datatype, default=default)))
    assert kept.default_value == default
    assert np.array([kept.default_value], datatype.dtype)[0] == np.array([default], datatype.dtype)[0]


def test_a_required_feature_has_no_default_value() -> None:
    assert Feature("age", default=50.0, missing=Missing.FAIL).default_value is None


@pytest.mark.parametrize("days", [0.0, -1.0, float("nan")])
def test_a_bound_on_age_must_be_positive(days: float) -> None:
    with pytest.raises(ValueError, match="feature age: max_age_days is .*, must be more than 0"):
        Feature("age", max_age_days=days)


HEIGHT = Feature("height", "m")
INDEX = Derived("index", Operation.DIVIDE, "weight", "square")
SQUARE = Derived("square", Operation.MULTIPLY, "height", "height")


def test_derived_features_are_computed_on_columns_one_from_the_other() -> None:
    features = FeatureSet(Entity("patient"), (HEIGHT,), (WEIGHT,), (SQUARE, INDEX))
    columns = {"height": np.array([2.0, 1.0], np.float32), "weight": np.array([80.0, 20.0], np.float32)}
    derived = features.derive(columns)
    assert {name: column.tolist() for name, column in derived.items()} == {"square": [4.0, 1.0], "index": [20.0, 20.0]}
    assert features.model_inputs == (HEIGHT, WEIGHT)


@pytest.mark.parametrize(
    "other",
    [
        (INDEX, SQUARE),
        (Derived("sum", Operation.ADD, "height", "city"),),
        (Derived("sum", Operation.ADD, "height", "curve"),),
        (Derived("sum", Operation.ADD, "height", "precise"),),
    ],
)
def test_an_invalid_derivation_is_refused(other: tuple[Derived, ...]) -> None:
    static = (HEIGHT, CITY, Feature("curve", shape=(2,)), Feature("precise", datatype=Datatype.FP64))
    with pytest.raises(ValueError, match=f"derived feature {other[0].name}: .* must be declared before it"):
        FeatureSet(Entity("patient"), static, (WEIGHT,), other)


def test_the_model_sees_its_inputs_in_one_order_and_in_their_types() -> None:
    assembled = FEATURES.assemble({"weight": [80.0], "city": np.array([b"Oslo"], object), "age": [50], "other": [1]})
    assert list(assembled) == ["age", "city", "weight"]
    assert [column.dtype for column in assembled.values()] == [np.float32, object, np.float32]
