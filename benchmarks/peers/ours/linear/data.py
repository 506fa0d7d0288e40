"""The training data: 150 irises, bundled with scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_iris

from serving.modeling import Dataset


def load() -> Dataset:
    """Return the rows to train on."""
    rows, classes = load_iris(return_X_y=True)
    keys = tuple(f"iris-{row}" for row in range(len(rows)))
    return Dataset(keys, np.zeros(len(rows), np.int64), {"x": rows.astype(np.float32)}, classes)
