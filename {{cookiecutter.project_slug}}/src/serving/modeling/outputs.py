"""What a model answers, and what training returns."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.domain.tensors import ROWS, Datatype, TensorSpec


class Answer(enum.StrEnum):
    """Choose which answer of the estimator an output carries."""

    PREDICTION = "prediction"
    """A regressor's `predict`."""

    LABEL = "label"
    """A classifier's `predict`."""

    PROBABILITIES = "probabilities"
    """A classifier's `predict_proba`: one number per class, in the order of `classes_`."""


@dataclass(frozen=True)
class Output:
    """Declare one output.

    `shape` is the shape of one row's answer: () for a number or a label, (3,) for the probabilities of three classes.
    `of` selects the probability of one class, which is then a single number. A single number or label may also have the
    shape (1,). `labels` names the classes 0, 1, 2 ... of
    a classifier that was trained on numbers; the output is then TEXT.
    """

    name: str
    answer: Answer = Answer.PREDICTION
    datatype: Datatype = Datatype.FP32
    shape: tuple[int, ...] = ()
    unit: str = ""
    description: str = ""
    of: str | int | None = None
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.answer is Answer.LABEL and self.datatype.is_float:
            raise ValueError(f"output {self.name}: a label is no {self.datatype}; declare Datatype.TEXT or INT64")
        if self.of is not None and (self.answer is not Answer.PROBABILITIES or self.shape not in ((), (1,))):
            raise ValueError(f"output {self.name}: `of` needs answer=Answer.PROBABILITIES and no shape")
        if self.labels and (self.answer is not Answer.LABEL or self.datatype is not Datatype.TEXT):
            raise ValueError(f"output {self.name}: `labels` needs answer=Answer.LABEL and datatype=Datatype.TEXT")

    @property
    def spec(self) -> TensorSpec:
        """The tensor that carries this output."""
        return TensorSpec(self.name, self.datatype, (ROWS, *self.shape), self.unit, self.description)


@dataclass(frozen=True)
class Fitted:
    """Hold a fitted estimator, what it was trained with, and its metrics on rows that it never saw.

    The estimator has scikit-learn's interface: `predict`, and for probabilities `predict_proba` and `classes_`.
    """

    estimator: Any
    parameters: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
