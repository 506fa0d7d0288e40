"""The models themselves: the same code and seeds fit them in each environment, with the same scikit-learn.

`python -m benchmarks.peers.estimators FOLDER` writes the fitted ones as joblib files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from benchmarks.peers.models import FOREST, IMAGE, IMAGE_SHAPE, LINEAR, Array, Predict

_BETWEEN_TWO_CLASSES = 70


def fit(folder: Path) -> None:
    """Fit the models of scikit-learn and write them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, classes = load_iris(return_X_y=True)
    for name, estimator in (
        (LINEAR, LogisticRegression(max_iter=10_000, tol=1e-9)),
        (FOREST, RandomForestClassifier(100, random_state=0)),
    ):
        # As exact as FP64 is: in FP32, each version of NumPy finds other coefficients.
        joblib.dump(estimator.fit(rows.astype(np.float32).astype(np.float64), classes), file_of(folder, name))


def file_of(folder: Path, name: str) -> Path:
    """Return the file of a fitted model."""
    return folder / f"{name}.joblib"


def load(folder: Path, name: str) -> Predict:
    """Return a model."""
    if name == IMAGE:
        return mean
    predict: Predict = joblib.load(file_of(folder, name)).predict_proba
    return predict


def mean(images: Array) -> Array:
    """Return the mean of each image as a column."""
    means: Array = images.reshape(len(images), -1).mean(axis=1, dtype=np.float32, keepdims=True)
    return means


def requests(name: str) -> list[Array]:
    """Return requests of one row; the first is the one under load."""
    if name == IMAGE:
        pixels = np.random.default_rng(0).integers(0, 256, (2, 1, *IMAGE_SHAPE))
        return list((pixels / 255).astype(np.float32))
    rows = load_iris().data.astype(np.float32)
    return [rows[[number]] for number in (_BETWEEN_TWO_CLASSES, 0, -1)]


if __name__ == "__main__":
    fit(Path(sys.argv[1]))
