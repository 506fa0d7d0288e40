from __future__ import annotations

import numpy as np

from model.data import history, load
from model.estimator import OUTPUTS, fit
from model.features import FEATURES
from serving.offline import user_model
from serving.offline.estimators import answers


def test_every_static_feature_is_in_the_history() -> None:
    assert sorted(history().columns) == sorted(feature.name for feature in FEATURES.static)


def test_no_cask_is_trained_on_with_what_became_known_later() -> None:
    data, past = load(), history()
    rows = past.as_of(data.entities, data.times)
    assert (past.times[rows] < data.times).all()
    assert data.columns["inspections"].tolist() == [3] * len(data)


def test_the_classifier_is_mostly_right_and_says_how_sure_it_is() -> None:
    data = user_model.dataset()
    fitted = fit(data)
    assert fitted.metrics["accuracy"] > 0.9
    answered = answers(fitted.estimator, OUTPUTS, data.frame())
    np.testing.assert_array_equal(answered["probability"].argmax(axis=1), answered["cultivar"])
