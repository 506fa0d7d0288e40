from __future__ import annotations

import numpy as np

from model.data import history, load
from model.features import FEATURES
from model.predictor import predict
from model.signature import OUTPUTS
from model.train import train


def test_every_static_feature_is_in_the_history() -> None:
    assert sorted(history().columns) == sorted(feature.name for feature in FEATURES.static)


def test_no_cask_is_trained_on_with_what_became_known_later() -> None:
    data, past = load(), history()
    rows = past.as_of(data.entities, data.times)
    assert (past.times[rows] < data.times).all()
    assert data.columns["inspections"].tolist() == [3] * len(data)


def test_the_classifier_is_mostly_right_and_says_how_sure_it_is() -> None:
    data = load()
    trained = train(data)
    assert trained.metrics["accuracy"] > 0.9
    answers = predict(trained.estimator, data.columns)
    assert list(answers) == [spec.name for spec in OUTPUTS]
    np.testing.assert_array_equal(answers["probability"].argmax(axis=1), answers["cultivar"])
