from __future__ import annotations

import numpy as np
from sklearn.datasets import load_diabetes

from model.data import history, load, static_features, visits
from model.estimator import fit
from model.features import FEATURES
from serving.offline import user_model


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


def test_the_model_explains_more_than_a_third_of_the_progression() -> None:
    assert fit(user_model.dataset()).metrics["r2"] > 1 / 3
