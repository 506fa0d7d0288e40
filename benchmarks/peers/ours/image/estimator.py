"""The estimator: the mean of an image, which needs no fitting."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from serving.modeling import Dataset, Fitted, Output

OUTPUTS = (Output("mean"),)
_OPSET, _IR_VERSION = 21, 10


class Mean:
    """Has scikit-learn's interface, and its own export."""

    def predict(self, frame: Any) -> Any:
        """Return the mean of each row."""
        return frame.to_numpy(np.float32).mean(axis=1)

    def to_onnx(self) -> bytes:
        """Return the graph."""
        matrix, mean = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("matrix", ["rows", "columns"]), ("mean", ["rows"]))
        )
        axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
        node = helper.make_node("ReduceMean", ["matrix", "axes"], ["mean"], keepdims=0)
        graph = helper.make_graph([node], "mean", [matrix], [mean], [axes])
        opset = helper.make_opsetid("", _OPSET)
        return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION).SerializeToString())


def fit(_data: Dataset) -> Fitted:
    """Return what is known without data."""
    return Fitted(Mean())
