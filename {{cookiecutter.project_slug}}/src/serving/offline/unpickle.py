"""Open a pickled estimator, run it and convert it to ONNX, in a short-lived process.

    python unpickle.py PICKLE ROWS FOLDER

A pickle is a program: whoever wrote it decides what happens here. So this runs in a separate environment, without
the secrets of the caller, and only what it leaves in FOLDER is looked at: `model.onnx`, and `answers.json` with what
the original estimator answered to each row. Converts what scikit-learn and XGBoost call a classifier or a regressor.
"""

from __future__ import annotations

import csv
import json
import pickle
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

MODEL, ANSWERS = "model.onnx", "answers.json"
_LIBRARIES = ("numpy", "onnx", "onnxmltools", "scikit-learn", "skl2onnx", "xgboost-cpu")
_OPSET, _ML_OPSET = 21, 3


def main(arguments: Sequence[str]) -> None:
    """Convert the estimator; a fault ends the process with one sentence on standard error."""
    source, rows, folder = map(Path, arguments)
    names, matrix = read_rows(rows)
    estimator = load(source)
    check(estimator, names)
    answers = ask(estimator, matrix)
    (folder / MODEL).write_bytes(convert(estimator, names, list(answers)))
    parameters = estimator.get_params(deep=False).items()
    result = {
        "features": names,
        "columns": {name: matrix[:, place].tolist() for place, name in enumerate(names)},
        "answers": {name: answer.tolist() for name, answer in answers.items()},
        "parameters": {"estimator": type(estimator).__qualname__}
        | {name: value for name, value in parameters if isinstance(value, bool | int | float | str) and value == value},
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
    (folder / ANSWERS).write_text(json.dumps(result), encoding="utf-8")


def read_rows(path: Path) -> tuple[list[str], Any]:
    """Return the names in the first line of a CSV file, and the numbers below as float32 [rows, names]."""
    numpy = import_module("numpy")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            names, *rows = csv.reader(file)
        matrix = numpy.array([[float(value) for value in row] for row in rows], numpy.float32)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        sys.exit(f"{path}: is no table of numbers with their names in the first line ({error}).")
    if not rows or matrix.shape != (len(rows), len(names)) or not numpy.isfinite(matrix).all():
        sys.exit(f"{path}: needs a row at least, as many numbers in each as there are names, and no missing ones.")
    return names, matrix


def load(path: Path) -> Any:
    """Unpickle: this runs the author's code."""
    try:
        return pickle.loads(path.read_bytes())  # noqa: S301 - what this process is for
    except Exception as error:  # noqa: BLE001 - a pickle raises what its author likes
        sys.exit(
            f"{path}: can't be opened ({type(error).__name__}); name the versions that it was saved with in "
            "requirements/import.in, then `make lock`."
        )


def check(estimator: Any, names: list[str]) -> None:
    """Refuse an object that is no estimator, or an estimator for other columns."""
    if not hasattr(estimator, "predict") or not hasattr(estimator, "get_params"):
        sys.exit(f"holds a {type(estimator).__qualname__}, which is no estimator of scikit-learn's kind.")
    wanted = getattr(estimator, "n_features_in_", len(names))
    known = [str(name) for name in getattr(estimator, "feature_names_in_", names)]
    if wanted != len(names) or known != names:
        sys.exit(f"the model takes {', '.join(known) if known != names else wanted} as columns, the rows have {names}.")


def ask(estimator: Any, matrix: Any) -> dict[str, Any]:
    """Return the original's outputs by name."""
    numpy = import_module("numpy")
    answer = estimator.predict(matrix)
    if not hasattr(estimator, "classes_"):
        return {"prediction": answer.astype(numpy.float32).reshape(len(matrix), -1)[:, 0]}
    if answer.dtype.kind not in "iub":
        sys.exit("its labels are no whole numbers; train it with encoded labels.")
    return {
        "label": answer.astype(numpy.int64),
        "probabilities": estimator.predict_proba(matrix).astype(numpy.float32),
    }


def convert(estimator: Any, names: list[str], outputs: list[str]) -> bytes:
    """Return the estimator as ONNX, with a column [rows] per feature as inputs."""
    onnx, skl2onnx = import_module("onnx"), import_module("skl2onnx")
    _teach_xgboost(skl2onnx)
    options = {"zipmap": False} if "probabilities" in outputs else {}
    model = skl2onnx.convert_sklearn(
        estimator,
        name="imported",  # else a random one, and each import would be another version
        initial_types=[("matrix", skl2onnx.common.data_types.FloatTensorType([None, len(names)]))],
        target_opset={"": _OPSET, "ai.onnx.ml": _ML_OPSET},
        options={id(estimator): options},
    )
    model = import_module("onnx.compose").add_prefix(model, "inner_")  # else its names may be those of the columns
    graph, helper, kinds = model.graph, onnx.helper, onnx.TensorProto
    inner = list(graph.node)
    widen = [helper.make_node("Unsqueeze", [name, "inner_last"], [f"inner_wide_{name}"]) for name in names]
    join = helper.make_node("Concat", [node.output[0] for node in widen], [graph.input[0].name], axis=1)
    # The converter chooses the output names, and returns a regressor's output as [rows, 1].
    given = [output.name for output in graph.output]
    last = [
        helper.make_node("Reshape", [given[0], "inner_flat"], outputs[:1]),
        *(helper.make_node("Identity", [have], [want]) for have, want in zip(given[1:], outputs[1:], strict=True)),
    ]
    classes = len(estimator.classes_) if "probabilities" in outputs else 0
    shapes: dict[str, tuple[int, list[str | int]]] = {
        "label": (kinds.INT64, ["rows"]),
        "prediction": (kinds.FLOAT, ["rows"]),
        "probabilities": (kinds.FLOAT, ["rows", classes]),
    }
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*widen, join, *inner, *last])
    graph.input.extend(helper.make_tensor_value_info(name, kinds.FLOAT, ["rows"]) for name in names)
    graph.output.extend(helper.make_tensor_value_info(name, *shapes[name]) for name in outputs)
    numbers = {"inner_last": 1, "inner_flat": -1}
    graph.initializer.extend(helper.make_tensor(name, kinds.INT64, [1], [value]) for name, value in numbers.items())
    return bytes(model.SerializeToString())


def _teach_xgboost(skl2onnx: Any) -> None:
    """Register XGBoost's estimators with skl2onnx."""
    xgboost = import_module("xgboost")
    converter = import_module("onnxmltools.convert.xgboost.operator_converters.XGBoost").convert_xgboost
    shapes = import_module("skl2onnx.common.shape_calculator")
    classifier, regressor = xgboost.XGBClassifier, xgboost.XGBRegressor
    skl2onnx.update_registered_converter(
        classifier,
        "XGBoostXGBClassifier",
        shapes.calculate_linear_classifier_output_shapes,
        converter,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    skl2onnx.update_registered_converter(
        regressor, "XGBoostXGBRegressor", shapes.calculate_linear_regressor_output_shapes, converter
    )


if __name__ == "__main__":
    main(sys.argv[1:])
