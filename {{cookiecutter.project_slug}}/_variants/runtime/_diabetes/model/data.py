"""The training data: 442 diabetes patients, bundled with scikit-learn, in raw units.

Source: Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression", Annals of Statistics 32 (2004).

The source has one undated row per patient. Synthetic, by a fixed rule from the number of the row, are: the patient keys
(`patient-001` is the first row), all dates, the heights, and the visits before the examination. Height and weight
together give the body mass index of the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_diabetes

from model.features import FEATURES
from serving.modeling import Dataset, History, Times

_NAMES = {"bp": "blood_pressure", "s1": "total_cholesterol", "s2": "ldl", "s3": "hdl", "s4": "cholesterol_ratio"}
_NAMES |= {"s5": "log_triglycerides", "s6": "glucose"}

_DAY_S = 86_400
_FIRST_DAY = int(np.datetime64("2003-01-06", "D").astype(np.int64))
_VISITS = 4
_DAYS_BETWEEN = 180
_GROWTH = 0.01
"""The share of today's weight that a patient gains between two visits."""


@dataclass(frozen=True)
class Visits:
    """Hold what was written down at each visit, which is not yet a feature: years, code 1 or 2, metres, kilograms."""

    entities: tuple[str, ...]
    times: Times
    age: npt.NDArray[np.float64]
    sex: npt.NDArray[np.float64]
    height: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]


def static_features(visits: Visits) -> dict[str, npt.NDArray[Any]]:
    """Compute the static features of `features.py` from the records: in batch, once per visit, never per request."""
    return {
        "age": visits.age.astype(np.float32),
        "sex": visits.sex.astype(np.float32),
        "bmi": np.round(visits.weight / visits.height**2, 1).astype(np.float32),
    }


def history() -> History:
    """Return the static features of every patient after each visit."""
    records = visits()
    return History(records.entities, records.times, static_features(records))


def load() -> Dataset:
    """Return the rows to train on: measurements and target, with the static features known when they were taken.

    No network is used.
    """
    bunch = _source()
    entities, times = _keys(len(bunch.target)), _examined(len(bunch.target))
    measured = {_NAMES.get(name, name): bunch.data[:, index] for index, name in enumerate(bunch.feature_names)}
    columns = {feature.name: measured[feature.name].astype(np.float32) for feature in FEATURES.real_time}
    columns |= history().known_at(entities, times, FEATURES.static)
    return Dataset(entities, times, columns, bunch.target.astype(np.float32))


def visits() -> Visits:
    """Return the synthetic records: of each patient four visits half a year apart, the last one the examination."""
    bunch = _source()
    age, sex, bmi = (bunch.data[:, bunch.feature_names.index(name)] for name in ("age", "sex", "bmi"))
    row = np.arange(len(bunch.target))
    height = np.where(sex == 1, 1.74, 1.62) + (row * 7 % 21 - 10) / 100
    weight = bmi * height**2
    before = np.repeat(np.arange(_VISITS)[::-1], len(row))
    days = before * _DAYS_BETWEEN
    return Visits(
        _keys(len(row)) * _VISITS,
        np.tile(_examined(len(row)), _VISITS) - days * _DAY_S,
        np.floor(np.tile(age, _VISITS) - days / 365.25 + 1e-9),
        np.tile(sex, _VISITS),
        np.tile(height, _VISITS),
        np.round(np.tile(weight, _VISITS) * (1 - _GROWTH * before), 1),
    )


def _source() -> Any:
    return load_diabetes(scaled=False)


def _keys(count: int) -> tuple[str, ...]:
    return tuple(f"patient-{row:03d}" for row in range(1, count + 1))


def _examined(count: int) -> Times:
    """Return when each patient was examined: synthetic, spread over a year."""
    return (_FIRST_DAY + np.arange(count, dtype=np.int64) * 37 % 365) * _DAY_S
