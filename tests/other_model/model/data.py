"""The training data: 178 wines of three cultivars, bundled with scikit-learn.

Synthetic, by a fixed rule from the number of the row, are the keys of the casks, the dates and the inspections.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_wine

from model.features import FEATURES
from serving.modeling import Dataset, History, Times

_DAY_S = 86_400
_FIRST_DAY = int(np.datetime64("2019-03-01", "D").astype(np.int64))
_INSPECTIONS = 3
_DAYS_BETWEEN = 30


def history() -> History:
    """Return what was known of every cask after each inspection; the last one was a day before the sample."""
    alcohol = _measured("alcohol")
    casks = len(alcohol)
    number = np.repeat(np.arange(1, _INSPECTIONS + 1), casks)
    days = 1 + (_INSPECTIONS - number) * _DAYS_BETWEEN
    columns: dict[str, npt.NDArray[Any]] = {
        "alcohol": (np.tile(alcohol, _INSPECTIONS) - 0.1 * (_INSPECTIONS - number)).astype(np.float32),
        "inspections": number.astype(np.int64),
    }
    return History(_keys(casks) * _INSPECTIONS, np.tile(_sampled(casks), _INSPECTIONS) - days * _DAY_S, columns)


def load() -> Dataset:
    """Return the rows to train on, each with what was known of its cask when it was sampled."""
    target = load_wine().target.astype(np.int64)
    entities, times = _keys(len(target)), _sampled(len(target))
    columns = history().known_at(entities, times, FEATURES.static)
    columns["flavanoids"] = _measured("flavanoids")
    columns["proline"] = _measured("proline").astype(np.int64)
    columns["hue"] = np.column_stack([_measured("hue"), _measured("color_intensity")]).astype(np.float32)
    return Dataset(entities, times, columns, target)


def _measured(name: str) -> npt.NDArray[np.float64]:
    bunch = load_wine()
    column: npt.NDArray[np.float64] = bunch.data[:, bunch.feature_names.index(name)]
    return column


def _keys(count: int) -> tuple[str, ...]:
    return tuple(f"C{row}" for row in range(count))


def _sampled(count: int) -> Times:
    return (_FIRST_DAY + np.arange(count, dtype=np.int64) * 11 % 300) * _DAY_S
