"""Open a model, ask it and convert it to ONNX, in a short-lived process.

    main([SOURCE, ROWS, PROGRAMS, MATRIX, *TEXT])

A pickle is a program: whoever wrote it decides what happens here. So it is opened only if PROGRAMS is `programs`, in a
container or at the caller's risk. All that leaves this process is one JSON document on standard output: the ONNX graph
and what the original answered to each row, or why there is none. MATRIX is the one input that holds all columns, or
empty. TEXT names columns that hold text even if it looks like numbers.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from serving.domain.errors import OperatorError, quoted
from serving.domain.tensors import Datatype
from serving.modeling.outputs import Answer, Output
from serving.offline import sources
from serving.offline.columns import LABEL, PREDICTION, PROBABILITIES, Matrix, described, feature_set, read_rows
from serving.offline.convert import to_onnx
from serving.offline.converters import libraries
from serving.offline.estimators import WHERE, answers, as_json, class_names

_ALWAYS = ("numpy", "onnx", "skl2onnx")
_PREDICT, _PREDICT_PROBA = "predict", "predict_proba"


def main(arguments: Sequence[str]) -> None:
    """Convert the model, and write the document."""
    document = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no part of it
    source, rows = map(Path, arguments[:2])
    try:
        matrix = Matrix.parse(arguments[3]) if arguments[3] else None
        numbers = matrix.datatype if matrix else Datatype.FP32
        table = read_rows(rows, arguments[4:], numbers)
        graph, found = converted(source, table, matrix, programs=arguments[2] == sources.PROGRAMS)
        json.dump({"model": base64.b64encode(graph).decode(), "found": found}, document)
    except sources.ProgramFoundError as error:
        json.dump({"program": str(error)}, document)
    except OperatorError as error:
        json.dump({"refused": str(error).removeprefix(f"{WHERE}: ")}, document)
    except Exception as error:  # noqa: BLE001 - programs and libraries raise anything; the caller gets one sentence
        json.dump({"refused": f"{sources.cause_of(error)}."}, document)
    document.close()


def converted(
    path: Path, rows: Mapping[str, npt.NDArray[Any]], matrix: Matrix | None, *, programs: bool
) -> tuple[bytes, dict[str, Any]]:
    """Return the model at a path as ONNX, and what is known of it; `programs` allows to open pickles.

    :raises OperatorError: it is not supported, does not fit the rows, or can't be converted
    """
    source = sources.find(path)
    estimator = sources.load(source, programs=programs)
    frame = pd.DataFrame(dict(rows))
    given = frame if check(estimator, list(rows)) else frame.to_numpy()
    columns = described(rows)
    text = [column.title for column in columns if column.text]
    outputs = declared(estimator, given, text)
    sent = {column.name: rows[column.title] for column in columns}
    if matrix:
        if text:
            raise OperatorError(f"column {quoted(text[0])} holds text, and --matrix takes numbers; leave it out.")
        outputs = named_as_by_mlserver(source, estimator, outputs, given)
        sent = {matrix.name: frame.to_numpy()}
    answered = answers(estimator, outputs, given)
    graph = to_onnx(estimator, feature_set(columns, matrix), outputs, frame)
    parameters = estimator.get_params(deep=False).items()
    folder = path if path.is_dir() else path.parent
    return graph, {
        "file": source.file.relative_to(folder.resolve()).as_posix(),
        "origin": source.origin,
        "name": source.name,
        "columns": [vars(column) for column in columns],
        "rows": {name: as_json(values) for name, values in sent.items()},
        "outputs": [vars(output) for output in outputs],
        "answers": {name: as_json(values) for name, values in answered.items()},
        "parameters": {"estimator": type(estimator).__qualname__}
        | {name: value for name, value in parameters if isinstance(value, bool | int | float | str) and value == value},
        "libraries": libraries(estimator, _ALWAYS),
    }


def check(estimator: Any, titles: list[str]) -> bool:
    """Refuse an object that is no estimator, or one for other columns; return whether it knows columns by name."""
    if not hasattr(estimator, "predict") or not hasattr(estimator, "get_params"):
        raise OperatorError(f"holds a {type(estimator).__qualname__}, which is no estimator of scikit-learn's kind.")
    known = fitted_names(estimator)
    count = len(known) if known else getattr(estimator, "n_features_in_", 0) or len(titles)
    if count != len(titles):
        raise OperatorError(f"the model takes {count} as columns, the rows have {len(titles)}: {', '.join(titles)}.")
    for name, title in zip(known, titles, strict=False):
        if name not in (title, re.sub(r"\s", "_", title)):  # LightGBM writes _ for a space
            raise OperatorError(
                f"the model takes {quoted(name)} where the rows have {quoted(title)}; its columns are "
                f"{', '.join(known)}, in this order."
            )
    return bool(known)


def fitted_names(estimator: Any) -> list[str]:
    """Return the names of the columns that an estimator was fitted on; none for a bare matrix."""
    # Scikit-learn's and XGBoost's, CatBoost's, and what LightGBM reads from a file.
    kept = (getattr(estimator, key, None) for key in ("feature_names_in_", "feature_names_", "feature_name_"))
    names = [str(name) for name in next((found for found in kept if found is not None), [])]
    numbered = [{str(place), f"Column_{place}"} for place in range(len(names))]  # CatBoost and LightGBM make them up
    return [] if all(name in made_up for name, made_up in zip(names, numbered, strict=True)) else names


def declared(estimator: Any, rows: Any, text_columns: Sequence[str]) -> list[Output]:
    """Declare what an estimator answers to these rows."""
    if isinstance(getattr(estimator, "classes_", None), list):
        raise OperatorError("answers with several labels per row; import a classifier with one.")
    predicted = _predicted(estimator, rows, text_columns)
    shape = () if predicted.shape[1:] == (1,) else predicted.shape[1:]
    classes = class_names(estimator)
    if classes is None:
        return [Output(PREDICTION, shape=shape)]
    if shape:
        raise OperatorError("answers with several labels per row; import a classifier with one.")
    text = all(isinstance(value, str) for value in classes)
    if not text and not all(isinstance(value, int | float) and value == int(value) for value in classes):
        raise OperatorError(f"its labels are neither text nor whole numbers, but such as {quoted(classes[0])}.")
    outputs = [Output(LABEL, Answer.LABEL, Datatype.TEXT if text else Datatype.INT64)]
    if hasattr(estimator, "predict_proba"):
        outputs.append(Output(PROBABILITIES, Answer.PROBABILITIES, shape=(len(classes),)))
    return outputs


def named_as_by_mlserver(source: sources.Source, estimator: Any, outputs: Sequence[Output], rows: Any) -> list[Output]:
    """Name outputs after the estimator's methods; `predict` is a column, and datatypes are the estimator's own."""
    classes = class_names(estimator)
    if classes and sources.predicts_probabilities(source):
        probabilities = replace(outputs[-1], name=_PREDICT, datatype=_datatype(estimator.predict_proba(rows)))
        return [replace(probabilities, shape=(1,), of=classes[1]) if len(classes) == 2 else probabilities]
    return [_named(output, estimator, rows) for output in outputs]


def _named(output: Output, estimator: Any, rows: Any) -> Output:
    name = _PREDICT_PROBA if output.answer is Answer.PROBABILITIES else _PREDICT
    datatype = Datatype.TEXT
    if output.datatype is not Datatype.TEXT:
        datatype = _datatype(getattr(estimator, name)(rows))
    if output.answer is Answer.LABEL and datatype.is_float:
        raise OperatorError(f"its labels are {datatype}, which no label can be here; import it without --matrix.")
    return replace(output, name=name, datatype=datatype, shape=output.shape or (1,))


def _datatype(values: Any) -> Datatype:
    dtype = np.asarray(values).dtype
    return next(datatype for datatype in Datatype if datatype.dtype == dtype)


def _predicted(estimator: Any, rows: Any, text_columns: Sequence[str]) -> npt.NDArray[Any]:
    try:
        return np.asarray(estimator.predict(rows))
    except Exception as error:  # estimators raise whatever they like
        hint = f"; text is in the columns {', '.join(text_columns)}" if text_columns else ""
        raise OperatorError(f"the model can't answer the rows ({sources.cause_of(error)}){hint}.") from error


if __name__ == "__main__":
    main(sys.argv[1:])
