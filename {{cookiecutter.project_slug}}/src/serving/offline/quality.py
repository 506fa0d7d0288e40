"""The quality of logged predictions, once their labels are known: by output, with scikit-learn's metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import metrics

from serving.domain.errors import OperatorError, quoted
from serving.modeling import Answer, Output
from serving.offline.predictions import REQUEST_ID, TIME
from serving.prediction.log_files import ENTITY

LABEL = "label"

_Array = npt.NDArray[Any]
_Metric = Callable[[_Array, _Array], float]

_OF_NUMBERS: Mapping[str, _Metric] = {
    "r2": metrics.r2_score,
    "mean_absolute_error": metrics.mean_absolute_error,
    "root_mean_squared_error": metrics.root_mean_squared_error,
    "mean_error": lambda label, answer: float(np.mean(answer - label)),
}
_OF_LABELS: Mapping[str, _Metric] = {
    "accuracy": metrics.accuracy_score,
    "f1_macro": lambda label, answer: float(metrics.f1_score(label, answer, average="macro")),
}
_OF_ONE_PROBABILITY: Mapping[str, _Metric] = {
    "roc_auc": metrics.roc_auc_score,
    "log_loss": lambda label, answer: float(metrics.log_loss(label, answer, labels=[0, 1])),
    "brier": metrics.brier_score_loss,
}
_HIGHER_IS_BETTER = ("r2", "accuracy", "f1_macro", "roc_auc")
_HAS_NO_SIDE = ("mean_error",)


@dataclass(frozen=True)
class Measured:
    """Hold one metric of one output of a version; `trained` is its value in training, if that had it."""

    version: str
    digest: str
    output: str
    metric: str
    value: float
    rows: int
    trained: float | None = None

    @property
    def loss(self) -> float | None:
        """How much worse it is than in training, as a share of that; negative if it is better."""
        if not self.trained or self.metric in _HAS_NO_SIDE:
            return None
        worse = self.trained - self.value if self.metric in _HIGHER_IS_BETTER else self.value - self.trained
        return worse / abs(self.trained)


def join(predictions: pd.DataFrame, labels: pd.DataFrame, within_s: float | None) -> pd.DataFrame:
    """Give each prediction the first label of its entity that is not older, and at most `within_s` seconds younger.

    Labels that name a request belong to its rows.
    """
    if REQUEST_ID in labels:
        return predictions.merge(labels[[REQUEST_ID, LABEL]].drop_duplicates(REQUEST_ID, keep="last"), on=REQUEST_ID)
    tolerance = None if within_s is None else int(within_s)
    found = pd.merge_asof(
        predictions.sort_values(TIME, kind="stable"),
        labels.sort_values(TIME, kind="stable")[[ENTITY, TIME, LABEL]],
        on=TIME,
        by=ENTITY,
        direction="forward",
        tolerance=tolerance,
    )
    return found[found[LABEL].notna()]


def measure(output: Output, labels: Sequence[Any], answers: Sequence[Any], names: Sequence[str]) -> dict[str, float]:
    """Return the metrics of one output; `names` are those of its classes 0, 1, 2 ..., if it has names.

    :raises OperatorError: the labels are not of the output's kind
    """
    if output.answer is Answer.LABEL:
        return _measured(_OF_LABELS, np.array(_texts(labels)), np.array(_texts(answers)))
    if output.answer is Answer.PREDICTION:
        return _measured(_OF_NUMBERS, _numbers(output, labels), np.array(answers, np.float64))
    if output.of is not None:
        hit = (np.array(_texts(labels)) == _text(output.of)).astype(int)
        known = _OF_ONE_PROBABILITY if 0 < hit.sum() < len(hit) else {"log_loss": _OF_ONE_PROBABILITY["log_loss"]}
        return _measured(known, hit, np.array(answers, np.float64))
    return _of_probabilities(output, _texts(labels), np.array(answers, np.float64), names)


def _of_probabilities(output: Output, labels: list[str], answers: _Array, names: Sequence[str]) -> dict[str, float]:
    count = answers.reshape(len(answers), -1).shape[1]
    # Estimators of scikit-learn order their classes by value.
    classes = list(names) or sorted(
        set(labels), key=lambda text: (not text.isdecimal(), len(text) * text.isdecimal(), text)
    )
    if all(label.isdecimal() and int(label) < count for label in labels):
        classes = [str(number) for number in range(count)]
    if len(classes) != count or not set(labels) <= set(classes):
        raise OperatorError(
            f"the labels are {', '.join(map(quoted, sorted(set(labels))[:5]))} ..., output {output.name} has {count} "
            "classes; write the number of the class, from 0."
        )
    places = np.array([classes.index(label) for label in labels])
    return {
        "accuracy": float(metrics.accuracy_score(places, answers.argmax(axis=1))),
        "log_loss": float(metrics.log_loss(places, answers, labels=range(count))),
    }


def _measured(known: Mapping[str, _Metric], labels: _Array, answers: _Array) -> dict[str, float]:
    answers = answers.reshape(len(labels))
    found = {name: float(metric(labels, answers)) for name, metric in known.items() if name != "r2" or len(labels) > 1}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _numbers(output: Output, labels: Sequence[Any]) -> _Array:
    try:
        return np.array([float(label) for label in labels])
    except ValueError:
        bad = next(label for label in labels if not _is_number(label))
        raise OperatorError(
            f"label {quoted(bad)} is no number, and output {output.name} is one; see --output."
        ) from None


def _is_number(label: Any) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def _texts(values: Sequence[Any]) -> list[str]:
    return [_text(value) for value in values]


def _text(value: Any) -> str:
    """Return a label as text: 1, 1.0 and "1" are the same class."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        value = int(value)
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def versions(frame: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """Yield the rows of each version."""
    for key, rows in frame.groupby(list(by), sort=True):
        yield tuple(map(str, key)), rows
