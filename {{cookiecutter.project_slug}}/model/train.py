"""Training: fit the estimator and say how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from model.data import Dataset
from model.predictor import build, matrix

TEST_SHARE = 0.2
SEED = 7


@dataclass(frozen=True)
class Trained:
    """Hold a fitted estimator, what it was trained with, and how it did on rows that it never saw."""

    estimator: Pipeline
    parameters: Mapping[str, float | int | str | bool]
    metrics: Mapping[str, float]


def train(data: Dataset) -> Trained:
    """Fit on one part of the rows, measure on the other."""
    seen, unseen = train_test_split(np.arange(len(data)), test_size=TEST_SHARE, random_state=SEED)
    rows = matrix(data.columns)
    estimator = build().fit(rows[seen], data.target[seen])
    answers = estimator.predict(rows[unseen])
    return Trained(
        estimator,
        {"estimator": "StandardScaler, RidgeCV", "alpha": float(estimator[-1].alpha_), "seed": SEED},
        {
            "r2": round(float(r2_score(data.target[unseen], answers)), 4),
            "mean_absolute_error": round(float(mean_absolute_error(data.target[unseen], answers)), 4),
        },
    )
