"""The training data: 442 diabetes patients, bundled with scikit-learn, in raw units.

Source: Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression", Annals of Statistics 32 (2004).
The patient keys are synthetic: `patient-001` is the first row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_diabetes

_NAMES = {"bp": "blood_pressure", "s1": "total_cholesterol", "s2": "ldl", "s3": "hdl", "s4": "cholesterol_ratio"}
_NAMES |= {"s5": "log_triglycerides", "s6": "glucose"}


@dataclass(frozen=True)
class Dataset:
    """Hold one row per entity: its key, a column per feature, and the target."""

    entities: tuple[str, ...]
    columns: Mapping[str, npt.NDArray[Any]]
    target: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.entities)


def load() -> Dataset:
    """Load all rows; no network is used."""
    bunch = load_diabetes(scaled=False)
    columns = {
        _NAMES.get(name, name): bunch.data[:, index].astype(np.float32)
        for index, name in enumerate(bunch.feature_names)
    }
    entities = tuple(f"patient-{row:03d}" for row in range(1, len(bunch.target) + 1))
    return Dataset(entities, columns, bunch.target.astype(np.float32))
