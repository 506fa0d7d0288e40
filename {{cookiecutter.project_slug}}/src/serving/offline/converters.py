"""Convert estimators with their libraries' own converters, without names and types of this repo's features.

sklearn-onnx converts scikit-learn's estimators; onnxmltools teaches it XGBoost's and LightGBM's. CatBoost has its own
exporter, and an estimator of any other framework brings its graph with a method `to_onnx()`.
"""

from __future__ import annotations

import copy
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, compose, helper, load, load_from_string, numpy_helper, version_converter

from serving.domain.errors import OperatorError, quoted
from serving.offline.estimators import WHERE, class_names

OPSET, ML_OPSET, IR = 21, 3, 10


def vector(name: str, values: Sequence[int | str]) -> TensorProto:
    """Return a vector of whole numbers or of text."""
    return numpy_helper.from_array(np.array(values, object if isinstance(values[0], str) else np.int64), name)


def summary(estimator: Any) -> str:
    """Return the classes of a pipeline's steps, or of the estimator, for the lineage."""
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    return ", ".join(type(step).__name__ for step in steps)


def libraries(estimator: Any, others: Sequence[str]) -> dict[str, str]:
    """Return the versions of the packages that an estimator and its parts come from, and of these others."""
    distributions = metadata.packages_distributions()
    used = {name for part in _parts(estimator) for name in distributions.get(_library(part), ())}
    return {name: metadata.version(name) for name in sorted(used.union(others))}


def converted(estimator: Any, frame: Any) -> ModelProto:
    """Convert with the libraries' own converters; outputs are the prediction or label, then probabilities."""
    with warnings.catch_warnings():
        # The converters' own: they call NumPy as it was, and where warnings are errors they would fail.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _converted(estimator, frame)


def _converted(estimator: Any, frame: Any) -> ModelProto:
    if hasattr(estimator, "to_onnx"):
        return _own_graph(estimator)
    if _library(estimator) == "catboost":
        return _catboost(estimator)
    steps = getattr(estimator, "steps", None)
    if steps and _library(steps[-1][1]) == "catboost":
        first = compose.add_prefix(_sklearn(estimator[:-1], frame), "columns/")
        last = _catboost(steps[-1][1])
        return compose.merge_models(
            _same_opset(first), _same_opset(last), [(first.graph.output[0].name, last.graph.input[0].name)]
        )
    return _sklearn(estimator, frame)


def _own_graph(estimator: Any) -> ModelProto:
    """Return the graph of an estimator that exports itself.

    Its graph takes one matrix of FP32 and gives one output: a prediction, or a probability per class. From
    probabilities follow the labels.
    """
    try:
        model = load_from_string(estimator.to_onnx())
    except (DecodeError, TypeError) as error:
        raise OperatorError(
            f"{WHERE}: {type(estimator).__name__}.to_onnx() must return the bytes of an ONNX model ({error})."
        ) from error
    inputs, answers = ([value.name for value in side] for side in (model.graph.input, model.graph.output))
    opset = max((entry.version for entry in model.opset_import if entry.domain == ""), default=OPSET)
    if (len(inputs), len(answers)) != (1, 1):
        raise OperatorError(
            f"{WHERE}: the graph of {type(estimator).__name__}.to_onnx() has the inputs {quoted(', '.join(inputs))} "
            f"and the outputs {quoted(', '.join(answers))}; it must take one matrix [rows, columns] of FP32, in the "
            "order of data.frame(), and give one answer."
        )
    if opset != OPSET:
        model = version_converter.convert_version(model, OPSET)
    classes = class_names(estimator)
    if classes is not None:
        graph = model.graph
        graph.initializer.append(vector("classes", classes))
        graph.node.append(helper.make_node("ArgMax", answers, ["most_probable"], axis=1, keepdims=0))
        graph.node.append(helper.make_node("Gather", ["classes", "most_probable"], ["label"]))
        graph.output.insert(0, helper.make_tensor_value_info("label", graph.initializer[-1].data_type, ["rows"]))
    return model


def _sklearn(estimator: Any, frame: Any) -> ModelProto:
    skl2onnx, types = import_module("skl2onnx"), import_module("skl2onnx.common.data_types")
    for part in _parts(estimator):
        if _library(part) in _TEACHERS:
            _TEACHERS[_library(part)](skl2onnx)
    if by_column(estimator, frame):
        kinds = {"O": types.StringTensorType, "i": types.Int64TensorType, "u": types.Int64TensorType}
        inputs = [
            (str(name), kinds.get(frame[name].dtype.kind, types.FloatTensorType)([None, 1])) for name in frame.columns
        ]
    else:
        inputs = [("matrix", types.FloatTensorType([None, len(frame.columns)]))]
    nameless = _anonymous(estimator)
    try:
        model: ModelProto = skl2onnx.convert_sklearn(
            nameless,
            name="estimator",  # else a random name, and each training would be another version
            initial_types=inputs,
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
            options=_options(nameless),
        )
    except Exception as error:  # converters raise whatever they like
        raise OperatorError(_refusal(estimator, error)) from error
    return model


def _options(estimator: Any) -> dict[Any, Any] | None:
    """Ask for probabilities as a matrix instead of a map; LinearSVC, which has none, does not know that option."""
    last = estimator
    while getattr(last, "steps", None):
        last = last.steps[-1][1]
    if type(last).__name__ == "LinearSVC":
        return {id(last): {}}
    return {"zipmap": False} if class_names(estimator) is not None else None


def _catboost(estimator: Any) -> ModelProto:
    """Convert with CatBoost, which adds a map of probabilities that no caller could read."""
    if estimator.get_cat_feature_indices() or estimator.get_text_feature_indices():
        raise OperatorError(
            f"{WHERE}: {type(estimator).__name__} reads categories or text, which CatBoost can't export to ONNX; put a "
            "ColumnTransformer before it that encodes them."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        try:
            estimator.save_model(str(path), format="onnx")
        except Exception as error:  # CatBoost's own class, which this module does not import
            raise OperatorError(_refusal(estimator, error)) from error
        model = load(path)
    graph = model.graph
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        graph.output[-1].CopyFrom(helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, ["N", None]))
        graph.node.remove(node)
    return model


def _same_opset(model: ModelProto) -> ModelProto:
    """Declare one operator set for two models that become one; none of their operators differs between the two."""
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)])
    model.ir_version = IR
    return model


def by_column(estimator: Any, frame: Any) -> bool:
    """Return whether the estimator reads columns by name or type, not one matrix of numbers."""
    if hasattr(estimator, "to_onnx"):
        return False
    text = any(frame[name].dtype.kind == "O" for name in frame.columns)
    return text or any(type(part).__name__ == "ColumnTransformer" for part in _parts(estimator))


def _parts(estimator: Any) -> list[Any]:
    """Return an estimator and the fitted ones inside it."""
    nested = [getattr(estimator, "final_estimator_", None), *getattr(estimator, "estimators_", ())]
    for name in ("steps", "transformers_", "transformer_list"):
        nested.extend(entry[1] for entry in getattr(estimator, name, ()))
    parts = [part for part in nested if hasattr(part, "get_params") and not isinstance(part, type)]
    return [estimator, *(inner for part in parts for inner in _parts(part))]


def _library(estimator: Any) -> str:
    return type(estimator).__module__.partition(".")[0]


def _anonymous(estimator: Any) -> Any:
    """Return a copy whose XGBoost models forget their columns' names: its converter accepts f0, f1 ... only."""
    if not any(_library(part) == "xgboost" for part in _parts(estimator)):
        return estimator
    unnamed = copy.deepcopy(estimator)
    for part in _parts(unnamed):
        if _library(part) == "xgboost":
            part.get_booster().feature_names = None
    return unnamed


def check_dense(estimator: Any, frame: Any) -> None:
    """Refuse what converts without an error and then answers otherwise."""
    steps: Any = getattr(estimator, "steps", ())
    if len(steps) > 1 and _library(steps[-1][1]) == "xgboost" and hasattr(estimator[:-1].transform(frame[:1]), "tocsr"):
        raise OperatorError(
            f"{WHERE}: XGBoost takes the zeros of a sparse matrix for missing values; pass sparse_threshold=0 to "
            "ColumnTransformer, or sparse_output=False to the encoder."
        )


def _refusal(estimator: Any, error: Exception) -> str:
    """Return why an estimator can't be converted; the cause is the converter's."""
    text = " ".join(str(error).split())
    unknown = re.search(r"for type '<class '([\w.]+)'>'", text)
    if unknown:
        name = unknown.group(1).rpartition(".")[2]
        return (
            f"{WHERE}: {name} can't be exported to ONNX: no converter knows it. Use another estimator or transformer "
            "in its place; docs/model.md lists what converts."
        )
    cause = re.split(r"(?<=[.!?]) ", text, maxsplit=1)[0].rstrip(".")
    return f"{WHERE}: {type(estimator).__name__} can't be exported to ONNX ({type(error).__name__}: {cause[:200]})."


def _xgboost(skl2onnx: Any) -> None:
    xgboost, shapes = import_module("xgboost"), import_module("skl2onnx.common.shape_calculator")
    convert = _onnxmltools("xgboost.operator_converters.XGBoost").convert_xgboost
    _register(skl2onnx, shapes, convert, "XGBoost", xgboost.XGBClassifier, xgboost.XGBRegressor)


def _lightgbm(skl2onnx: Any) -> None:
    lightgbm, shapes = import_module("lightgbm"), import_module("skl2onnx.common.shape_calculator")
    convert = _onnxmltools("lightgbm.operator_converters.LightGbm").convert_lightgbm
    _register(skl2onnx, shapes, convert, "LightGbm", lightgbm.LGBMClassifier, lightgbm.LGBMRegressor)


def _register(skl2onnx: Any, shapes: Any, convert: Any, prefix: str, classifier: Any, regressor: Any) -> None:
    skl2onnx.update_registered_converter(
        classifier,
        f"{prefix}{classifier.__name__}",
        shapes.calculate_linear_classifier_output_shapes,
        convert,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    skl2onnx.update_registered_converter(
        regressor,
        f"{prefix}{regressor.__name__}",
        shapes.calculate_linear_regressor_output_shapes,
        convert,
        options={"split": None},
    )


def _onnxmltools(module: str) -> Any:
    return import_module(f"onnxmltools.convert.{module}")


_TEACHERS: dict[str, Callable[[Any], None]] = {"xgboost": _xgboost, "lightgbm": _lightgbm}
"""Register another library's estimators with sklearn-onnx."""
