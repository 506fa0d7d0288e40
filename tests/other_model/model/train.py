"""Training: fit the classifier and say how often it is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from model.data import Dataset
from model.predictor import build, matrix

SEED = 3


@dataclass(frozen=True)
class Trained:
    """Hold a fitted classifier, what it was trained with, and how it did on rows that it never saw."""

    estimator: Pipeline
    parameters: Mapping[str, float | int | str | bool]
    metrics: Mapping[str, float]


def train(data: Dataset) -> Trained:
    """Fit on one part of the rows, measure on the other."""
    seen, unseen = train_test_split(np.arange(len(data)), test_size=0.25, random_state=SEED)
    rows = matrix(data.columns)
    estimator = build().fit(rows[seen], data.target[seen])
    accuracy = float(accuracy_score(data.target[unseen], estimator.predict(rows[unseen])))
    return Trained(estimator, {"estimator": "LogisticRegression", "seed": SEED}, {"accuracy": round(accuracy, 4)})
