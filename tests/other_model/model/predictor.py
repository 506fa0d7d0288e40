"""The classifier: how it is built, how it answers, how it leaves scikit-learn as ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from model.features import FEATURES
from model.signature import CULTIVARS, OUTPUTS

Columns = Mapping[str, npt.NDArray[Any]]

_OPSET = 21


def build() -> Pipeline:
    """Return a classifier that has not seen data yet."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def matrix(columns: Columns) -> npt.NDArray[np.float32]:
    """Return the features as one matrix, in the order in which `features.py` declares them."""
    return np.column_stack(list(FEATURES.assemble(columns).values())).astype(np.float32)


def predict(estimator: Pipeline, columns: Columns) -> dict[str, npt.NDArray[Any]]:
    """Return scikit-learn's own answer, by output name; the served model must agree with it."""
    rows = matrix(columns)
    answers = (estimator.predict(rows).astype(np.int64), estimator.predict_proba(rows).astype(np.float32))
    return {spec.name: answer for spec, answer in zip(OUTPUTS, answers, strict=True)}


def to_onnx(estimator: Pipeline) -> bytes:
    """Return the classifier as one ONNX file with an input per feature and an output per name in `signature.py`.

    scikit-learn works on one matrix of FP32: the graph begins with the steps that make it from the columns.
    """
    features = FEATURES.model_inputs
    width = sum(feature.spec.row_elements for feature in features)
    model = convert_sklearn(
        estimator,
        name=OUTPUTS[0].name,  # a random one, otherwise: then no two trainings give the same artifact
        initial_types=[("matrix", FloatTensorType([None, width]))],
        options={"zipmap": False},
        target_opset=_OPSET,
    )
    graph = model.graph
    inner, (label, probabilities) = list(graph.node), [output.name for output in graph.output]
    steps = []
    for feature in features:
        name = feature.name
        steps.append(helper.make_node("Cast", [name], [f"{name}__float"], f"cast_{name}", to=TensorProto.FLOAT))
        steps.append(helper.make_node("Reshape", [f"{name}__float", f"{name}__shape"], [f"{name}__columns"]))
        shape = [-1, feature.spec.row_elements]
        graph.initializer.append(helper.make_tensor(f"{name}__shape", TensorProto.INT64, [2], shape))
    steps.append(helper.make_node("Concat", [f"{feature.name}__columns" for feature in features], ["matrix"], axis=1))
    ends = [
        helper.make_node("Identity", [source], [spec.name])
        for source, spec in zip((label, probabilities), OUTPUTS, strict=True)
    ]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*steps, *inner, *ends])
    graph.input.extend(
        helper.make_tensor_value_info(
            feature.name, helper.np_dtype_to_tensor_dtype(feature.datatype.dtype), ["rows", *feature.shape]
        )
        for feature in features
    )
    graph.output.extend(
        [
            helper.make_tensor_value_info(OUTPUTS[0].name, TensorProto.INT64, ["rows"]),
            helper.make_tensor_value_info(OUTPUTS[1].name, TensorProto.FLOAT, ["rows", CULTIVARS]),
        ]
    )
    return bytes(model.SerializeToString())
