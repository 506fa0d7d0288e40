"""The estimator: how it is built, how it answers, how it leaves scikit-learn as ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from model.features import FEATURES
from model.signature import OUTPUTS

Columns = Mapping[str, npt.NDArray[Any]]

_OPSET = 21


def build() -> Pipeline:
    """Return an estimator that has not seen data yet."""
    return make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-2, 3, 26)))


def matrix(columns: Columns) -> npt.NDArray[np.float32]:
    """Return the features as one matrix, in the order in which `features.py` declares them, derived ones last."""
    inputs = FEATURES.assemble(columns)
    return np.column_stack([*inputs.values(), *FEATURES.derive(inputs).values()]).astype(np.float32)


def predict(estimator: Pipeline, columns: Columns) -> dict[str, npt.NDArray[Any]]:
    """Return scikit-learn's own answer, by output name; the served model must agree with it."""
    return {OUTPUTS[0].name: estimator.predict(matrix(columns)).astype(np.float32)}


def to_onnx(estimator: Pipeline) -> bytes:
    """Return the estimator as one ONNX file with an input per feature and an output per name in `signature.py`.

    scikit-learn works on matrices of [rows, 1], callers send columns of [rows]: the graph gets a step at either end.
    Before the first of them it computes the derived features.
    """
    inputs = [feature.name for feature in FEATURES.model_inputs]
    features = [*inputs, *(derived.name for derived in FEATURES.derived)]
    output = OUTPUTS[0].name
    model = convert_sklearn(
        estimator,
        name=output,
        initial_types=[(f"{name}__matrix", FloatTensorType([None, 1])) for name in features],
        target_opset=_OPSET,
    )
    graph = model.graph
    inner = list(graph.node)
    widen = [
        helper.make_node("Unsqueeze", [name, "columns"], [f"{name}__matrix"], f"widen_{name}") for name in features
    ]
    derive = [helper.make_node(d.operation.value, [d.left, d.right], [d.name], d.name) for d in FEATURES.derived]
    narrow = helper.make_node("Squeeze", [graph.output[0].name, "columns"], [output], "narrow")
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*derive, *widen, *inner, narrow])
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows"]) for name in inputs)
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["rows"]))
    graph.initializer.append(helper.make_tensor("columns", TensorProto.INT64, [1], [1]))
    return bytes(model.SerializeToString())
