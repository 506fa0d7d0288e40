"""Ask a fitted estimator with scikit-learn's interface for the declared outputs.

Scikit-learn's own estimators and pipelines, XGBoost's, LightGBM's and CatBoost's have this interface.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.domain.errors import OperatorError, quoted
from serving.domain.tensors import Datatype
from serving.modeling.outputs import Answer, Output

WHERE = "model/estimator.py"


def answers(estimator: Any, outputs: Sequence[Output], rows: Any) -> dict[str, npt.NDArray[Any]]:
    """Return the estimator's own answers by output name, one per row of a DataFrame or matrix; text is `str`.

    :raises OperatorError: an output does not fit the estimator
    """
    count = getattr(estimator, "n_features_in_", 0) or rows.shape[1]  # 0: CatBoost, read from a file
    if count != rows.shape[1]:
        raise OperatorError(
            f"{WHERE}: {type(estimator).__name__} was fitted on {count} columns, model/features.py declares "
            f"{rows.shape[1]}; fit it on data.frame()."
        )
    return {output.name: _answer(estimator, output, rows) for output in outputs}


def _answer(estimator: Any, output: Output, rows: Any) -> npt.NDArray[Any]:
    where = f"{WHERE}: output {output.name}"
    name, classes = type(estimator).__name__, class_names(estimator)
    if output.answer is Answer.PREDICTION:
        if classes is not None:
            raise OperatorError(
                f"{where}: {name} is a classifier; declare answer=Answer.LABEL or Answer.PROBABILITIES."
            )
        return _shaped(where, output, _asked(estimator, "predict", rows))
    if classes is None:
        raise OperatorError(f"{where}: {name} is no classifier; declare answer=Answer.PREDICTION.")
    if output.answer is Answer.LABEL:
        labels = _labels(where, output, classes, _asked(estimator, "predict", rows).reshape(-1))
        return labels.reshape(-1, *output.shape)
    if not hasattr(estimator, "predict_proba"):
        raise OperatorError(
            f"{where}: {name} has no predict_proba, so there are no probabilities; remove the output, or wrap the "
            "estimator in CalibratedClassifierCV."
        )
    probabilities = _asked(estimator, "predict_proba", rows)
    if output.of is not None:
        return _shaped(where, output, probabilities[:, class_index(output, classes)])
    return _shaped(where, output, probabilities)


def _asked(estimator: Any, method: str, rows: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(getattr(estimator, method)(rows))
    except Exception as error:  # a library's own, or that of the user's own class
        cause = " ".join(str(error).split())
        raise OperatorError(
            f"{WHERE}: {type(estimator).__name__}.{method}() fails on the rows of data.frame(): "
            f"{type(error).__name__}: {cause[:200].rstrip('.')}."
        ) from error


def class_names(estimator: Any) -> list[Any] | None:
    """Return a classifier's classes in the order of its probabilities; None for any other estimator."""
    classes = getattr(estimator, "classes_", None)
    return None if classes is None or not len(classes) else list(np.asarray(classes).tolist())


def class_index(output: Output, classes: list[Any]) -> int:
    """Return the column of the class that an output reports."""
    if output.of not in classes:
        known = ", ".join(repr(value) for value in classes[:5])
        raise OperatorError(f"{WHERE}: output {output.name}: of={output.of!r} is no class; the classes are {known}.")
    return classes.index(output.of)


def _labels(where: str, output: Output, classes: list[Any], predicted: npt.NDArray[Any]) -> npt.NDArray[Any]:
    text = isinstance(classes[0], str)
    if output.labels:
        if classes != list(range(len(output.labels))):
            raise OperatorError(
                f"{where}: labels={output.labels} name the classes 0, 1 ..., and these are {classes[:5]}."
            )
        return np.array(output.labels, object)[predicted.astype(np.int64)]
    if text != (output.datatype is Datatype.TEXT):
        right = "TEXT" if text else "INT64, or name the classes with labels=(...)"
        raise OperatorError(
            f"{where}: the labels are {'text' if text else 'numbers'} such as {quoted(classes[0])}, and it is declared "
            f"{output.datatype}; declare datatype=Datatype.{right}."
        )
    return predicted.astype(output.datatype.dtype)


def _shaped(where: str, output: Output, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return numbers in the declared type and shape."""
    shape = values.shape[1:]
    if shape == (1,) and not output.shape:  # a column, as CatBoost and regressors fitted on a column return it
        values, shape = values[:, 0], ()
    if shape == () and output.shape == (1,):
        values, shape = values[:, np.newaxis], (1,)
    if shape != output.shape:
        raise OperatorError(
            f"{where}: the estimator answers {list(shape) or 'one number'} per row, and shape={output.shape} is "
            f"declared; declare shape={shape}."
        )
    return values.astype(output.datatype.dtype)


def as_json(values: npt.NDArray[Any]) -> list[Any]:
    """Return an array as JSON has it; NaN is null."""
    if values.dtype.kind == "f" and np.isnan(values).any():
        missing, values = np.isnan(values), values.astype(object)
        values[missing] = None
    listed: list[Any] = values.tolist()
    return listed
