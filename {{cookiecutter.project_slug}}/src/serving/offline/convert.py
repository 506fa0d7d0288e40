"""Convert a fitted estimator to one ONNX graph: an input per feature, an output per declared output.

    columns --(cast, reshape)--> the estimator's input --(estimator)--> its answers --(select, reshape)--> outputs

Only the part in the middle comes from a converter (`converters.py`). Names of its nodes get a prefix, so that they
can't be those of a feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import NodeProto, TensorProto, ValueInfoProto, compose, helper

from serving.domain.features import Feature, FeatureSet
from serving.domain.tensors import Datatype
from serving.modeling.outputs import Answer, Output
from serving.offline.converters import IR, ML_OPSET, OPSET, by_column, check_dense, converted, vector
from serving.offline.estimators import class_index, class_names

_PREFIX = "estimator/"


def to_onnx(estimator: Any, features: FeatureSet, outputs: Sequence[Output], frame: Any) -> bytes:
    """Return the estimator as ONNX; `frame` is what it was fitted on, or a part of it.

    :raises OperatorError: there is no converter for a part of the estimator
    """
    estimator = getattr(estimator, "best_estimator_", estimator)  # a search: what it found
    check_dense(estimator, frame)
    inner = compose.add_prefix(converted(estimator, frame), _PREFIX)
    graph = _Graph(features, outputs)
    graph.compute_derived()
    if by_column(estimator, frame):
        graph.widen_to_columns([value.name for value in inner.graph.input], frame)
    else:
        graph.widen_to_matrix(inner.graph.input[0].name)
    graph.nodes.extend(inner.graph.node)
    graph.constants.extend(inner.graph.initializer)
    graph.answer(estimator, [value.name for value in inner.graph.output])
    opsets = {"": OPSET, "ai.onnx.ml": ML_OPSET} | {
        opset.domain: opset.version for opset in inner.opset_import if opset.domain not in ("", "ai.onnx.ml")
    }
    model = helper.make_model(
        graph.proto(),
        ir_version=IR,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
    )
    return bytes(model.SerializeToString(deterministic=True))


class _Graph:
    """Collect the nodes around the estimator."""

    def __init__(self, features: FeatureSet, outputs: Sequence[Output]) -> None:
        self._features = features
        self._outputs = outputs
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.widths = {feature.name: feature.spec.row_elements for feature in features.model_inputs}
        self.widths |= {derived.name: 1 for derived in features.derived}

    def node(self, operator: str, inputs: Sequence[str], output: str | Sequence[str], **attributes: Any) -> None:
        """Add a node."""
        names = [output] if isinstance(output, str) else list(output)
        self.nodes.append(helper.make_node(operator, list(inputs), names, f"{names[0]}/{operator}", **attributes))

    def constant(self, name: str, values: Sequence[int | str]) -> str:
        """Add a vector of whole numbers or of text."""
        self.constants.append(vector(name, values))
        return name

    def compute_derived(self) -> None:
        """Compute the derived features from whole columns."""
        for derived in self._features.derived:
            self.node(derived.operation.value, [derived.left, derived.right], derived.name)

    def widen_to_matrix(self, matrix: str) -> None:
        """Join all columns to one matrix of FP32, in their order."""
        parts = [self._wide(name, f"{name}/wide", TensorProto.FLOAT) for name in self.widths]
        self.node("Concat", parts, matrix, axis=1)

    def widen_to_columns(self, inputs: Sequence[str], frame: Any) -> None:
        """Give each column of the DataFrame its own input [rows, 1]: text, INT64 or FP32."""
        kinds = [frame[name].dtype.kind for name in frame.columns]
        place = 0
        for name, width in self.widths.items():
            targets, kind = list(inputs[place : place + width]), kinds[place]
            element = None if kind == "O" else TensorProto.INT64 if kind in "iu" else TensorProto.FLOAT
            if width == 1:
                self._wide(name, targets[0], element)
            else:
                self.node("Split", [self._wide(name, f"{name}/wide", element)], targets, axis=1, num_outputs=width)
            place += width

    def _wide(self, name: str, target: str, element: int | None) -> str:
        source = name
        if element is not None:
            source = f"{name}/cast"
            self.node("Cast", [name], source, to=element)
        self.node("Reshape", [source, self.constant(f"{name}/shape", [-1, self.widths[name]])], target)
        return target

    def answer(self, estimator: Any, given: Sequence[str]) -> None:
        """Connect the estimator's answers, prediction or label first, then probabilities, to the outputs."""
        for output in self._outputs:
            name = self._features.graph_output(output.name)
            source = given[1] if output.answer is Answer.PROBABILITIES else given[0]
            if output.of is not None:
                index = self.constant(f"{name}/class", [class_index(output, class_names(estimator) or [])])
                self.node("Gather", [source, index], source := f"{name}/one", axis=1)
            if output.labels:
                names = self.constant(f"{name}/labels", output.labels)
                self.node("Gather", [names, source], source := f"{name}/named")
            elif output.datatype is not Datatype.TEXT:
                element = helper.np_dtype_to_tensor_dtype(output.datatype.dtype)
                self.node("Cast", [source], source := f"{name}/cast", to=element)
            shape = self.constant(f"{name}/shape", [-1, *output.shape])
            self.node("Reshape", [source, shape], name)

    def proto(self) -> Any:
        """Return the graph."""
        return helper.make_graph(
            self.nodes,
            "model",
            [_declared(feature.name, feature) for feature in self._features.model_inputs],
            [_declared(self._features.graph_output(output.name), output) for output in self._outputs],
            self.constants,
        )


def _declared(name: str, item: Feature | Output) -> ValueInfoProto:
    text = item.datatype.holds_bytes
    element = TensorProto.STRING if text else helper.np_dtype_to_tensor_dtype(item.datatype.dtype)
    return helper.make_tensor_value_info(name, element, ["rows", *item.shape])
