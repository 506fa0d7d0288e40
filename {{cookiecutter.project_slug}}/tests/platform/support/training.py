"""Models trained in this process, on all or part of the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from serving.domain.references import Reference
from serving.modeling import Dataset
from serving.offline import project, user_model
from serving.offline import train as training
from serving.offline.bootstrap import open_registry
from serving.offline.estimators import answers
from serving.offline.user_model import dataset  # bound here: tests put `fewer` in its place


def fewer(rows: int) -> Dataset:
    """Return the training data without its last rows."""
    data = dataset()
    return data.take(np.arange(len(data) - rows))


def registered(data: Dataset) -> Reference:
    """Train on some data and register the model."""
    return training.register(open_registry("local", project.REGISTRY), training.export(user_model.train(data)))


def own_answers(data: Dataset) -> dict[str, npt.NDArray[Any]]:
    """Return the trained estimator's own answers to all rows, as a server sends them: text in UTF-8."""
    fitted = user_model.fit(data)
    answered = answers(fitted.estimator, user_model.outputs(), data.frame())
    return {
        name: np.frompyfunc(str.encode, 1, 1)(values) if values.dtype == object else values
        for name, values in answered.items()
    }
