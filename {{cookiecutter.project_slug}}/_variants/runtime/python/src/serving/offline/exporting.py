"""Export a trained model in the native format of its library, and record which of its answers are the outputs."""

from __future__ import annotations

from typing import Any

from serving.adapters.runtime.python.libraries import LIBRARIES as SUPPORTED
from serving.adapters.runtime.python.packed import Ask, Description, pack
from serving.adapters.runtime.python.pickled import PYTHON
from serving.adapters.runtime.python.settings import runtime_settings
from serving.domain.errors import OperatorError, quoted
from serving.modeling.outputs import Answer, Output
from serving.offline.estimators import class_index, class_names
from serving.offline.user_model import Training

FORMAT = "python"
LIBRARIES = ("numpy",)
"""Packages whose versions are part of each lineage, besides those that the estimator comes from."""


def export_model(training: Training) -> bytes:
    """Return the model's file.

    :raises OperatorError: the estimator has no format here, or its library refuses to save it
    """
    estimator = getattr(training.fitted.estimator, "best_estimator_", training.fitted.estimator)
    library = _library(estimator)
    try:
        content = SUPPORTED[library].save(estimator, runtime_settings())
    except OperatorError:
        raise
    except Exception as error:  # libraries raise whatever they like
        raise OperatorError(
            f"model/estimator.py: {type(estimator).__name__} can't be saved by {library} "
            f"({type(error).__name__}: {quoted(error, 200)})."
        ) from error
    classes = tuple(class_names(estimator) or ())
    asks = tuple(_ask(output, classes) for output in training.outputs)
    return pack(Description(library, asks, classes, PYTHON if library == "pickle" else ""), content)


def _library(estimator: Any) -> str:
    if hasattr(estimator, "exported_program"):
        return "torch"
    if hasattr(estimator, "keras_model"):
        return "keras"
    name = type(estimator).__module__.partition(".")[0]
    return name if name in SUPPORTED else "pickle"


def _ask(output: Output, classes: tuple[int | str, ...]) -> Ask:
    column = None if output.of is None else class_index(output, list(classes))
    method = "predict_proba" if output.answer is Answer.PROBABILITIES else "predict"
    return Ask(output.name, method, column, output.labels)
