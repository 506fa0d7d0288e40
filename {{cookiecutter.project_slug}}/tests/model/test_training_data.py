from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, load_from_string
from sklearn.datasets import load_diabetes

from model.data import history, load, static_features, visits
from model.features import FEATURES
from model.predictor import matrix, to_onnx
from model.train import train


def test_the_examination_gives_the_static_values_of_the_source() -> None:
    source, data = load_diabetes(scaled=False), load()
    for name in ("age", "sex", "bmi"):
        expected = source.data[:, source.feature_names.index(name)].astype(np.float32)
        np.testing.assert_array_equal(data.columns[name], expected)


def test_no_patient_is_trained_on_with_what_became_known_later() -> None:
    data, past = load(), history()
    rows = past.as_of(data.entities, data.times)
    assert (past.times[rows] <= data.times).all()
    first = np.array([past.entities.index(entity) for entity in data.entities])
    assert (past.columns["bmi"][rows] != past.columns["bmi"][first]).any()


def test_the_data_is_the_same_each_time() -> None:
    for one, other in ((visits(), visits()), (load(), load())):
        for name, value in vars(one).items():
            np.testing.assert_equal(value, getattr(other, name))


def test_every_static_feature_is_computed() -> None:
    assert sorted(static_features(visits())) == sorted(feature.name for feature in FEATURES.static)


def test_the_matrix_has_the_declared_order_derived_features_last() -> None:
    columns = load().columns
    rows = matrix(dict(reversed(columns.items())))
    for index, feature in enumerate(FEATURES.model_inputs):
        np.testing.assert_array_equal(rows[:, index], columns[feature.name])
    assert rows.shape[1] == len(FEATURES.model_inputs) + len(FEATURES.derived)


def test_the_exported_model_derives_what_training_derives_to_the_last_bit() -> None:
    data = load()
    model = load_from_string(to_onnx(train(data).estimator))
    names = [derived.name for derived in FEATURES.derived]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows"]) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = FEATURES.assemble(data.columns)
    for name, column in zip(names, session.run(names, inputs), strict=True):
        assert column.tobytes() == FEATURES.derive(inputs)[name].tobytes()
