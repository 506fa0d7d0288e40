"""Small models that can be served: handmade ONNX, in artifacts as training writes them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, checker, helper

from serving.domain.artifacts import (
    Artifact,
    GoldenRows,
    Manifest,
    copy_artifact,
    install_artifact,
    open_artifact,
    write_artifact,
)
from serving.domain.features import Entity, Feature, FeatureSet
from serving.domain.lineage import Lineage
from serving.domain.references import Reference, write_lock
from serving.domain.tensors import ROWS, Datatype, TensorSpec

_OPSET = 21
_IR_VERSION = 10

_ELEMENT_TYPES = {
    Datatype.BOOL: TensorProto.BOOL,
    Datatype.BYTES: TensorProto.STRING,
    Datatype.TEXT: TensorProto.STRING,
    Datatype.FP16: TensorProto.FLOAT16,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
    **{d: TensorProto.DataType.Value(d.value) for d in Datatype if "INT" in d.value},
}


@dataclass(frozen=True)
class Model:
    """The parts of an artifact; a test replaces those that it needs to differ."""

    manifest: Manifest
    onnx: bytes
    golden: GoldenRows
    lineage: Lineage = field(default_factory=lambda: Lineage("A model of the tests", "none", data_digest="none"))

    @property
    def name(self) -> str:
        return self.manifest.model

    def write(self, folder: Path) -> str:
        """Write the artifact into a new folder; return its digest."""
        return write_artifact(folder, self.manifest, self.onnx, self.golden, self.lineage)

    def opened(self, folder: Path) -> Artifact:
        """Write the artifact into a new folder and open it."""
        return open_artifact(folder, self.write(folder))

    def lay_out(self, root: Path, version: str = "1") -> Reference:
        """Make a folder that a server can be started in: artifact and model.lock."""
        staged = root / "staged"
        digest = self.write(staged)
        install_artifact(root / "artifacts", digest, lambda target: copy_artifact(staged, target, digest))
        shutil.rmtree(staged)
        reference = Reference("local", self.name, version, digest)
        write_lock(root / "model.lock", reference)
        return reference


def tiny(name: str = "tiny", *, static: bool = False) -> Model:
    """Return a model that adds: total = base + value; `static` makes `base` a feature of the store, default 100."""
    base = Feature("base", "1", "What is added to", default=100.0) if static else Feature("base")
    value = Feature("value", "1", "What is added")
    features = FeatureSet(
        Entity("key", "Key of the row"), (base,) if static else (), (value,) if static else (base, value)
    )
    output = TensorSpec("total", Datatype.FP32, unit="1", description="The sum")
    golden = GoldenRows(("a", "b"), {"base": [1.0, 2.0], "value": [10.0, 20.0]}, {"total": [11.0, 22.0]})
    onnx = _serialised([helper.make_node("Add", ["base", "value"], ["total"])], features, [output])
    return Model(_manifest(name, features, (output,)), onnx, golden)


def rich(datatypes: Iterable[Datatype] = Datatype) -> Model:
    """Return a model with an input of each datatype, one matrix and one list of strings; it gives back what it gets.

    The output of `x` is `x_out`. Names are the datatypes in small letters, then `matrix` and `words`.
    """
    columns = [Feature(datatype.value.lower(), datatype=datatype) for datatype in datatypes]
    columns += [Feature("matrix", shape=(2, 3)), Feature("words", datatype=Datatype.BYTES, shape=(2,))]
    features = FeatureSet(Entity("key"), (), tuple(columns))
    outputs = tuple(TensorSpec(f"{f.name}_out", f.datatype, (ROWS, *f.shape)) for f in columns)
    rows: dict[str, list[Any]] = {feature.name: _row(feature) for feature in columns}
    golden = GoldenRows(("a", "b"), rows, {f"{name}_out": values for name, values in rows.items()})
    nodes = [helper.make_node("Identity", [f.name], [f"{f.name}_out"]) for f in columns]
    return Model(_manifest("rich", features, outputs), _serialised(nodes, features, outputs), golden)


def slow() -> Model:
    """Return a model whose call takes as many steps as the largest value of its input says; it gives the input back.

    A step is one product of two small matrices. Its golden rows take enough of them for no call to run on the event
    loop.
    """
    features = FeatureSet(Entity("key"), (), (Feature("steps", datatype=Datatype.INT64),))
    output = TensorSpec("done", Datatype.INT64)
    side = 64
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "turn"], ["after"]),
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
        ],
        "step",
        [_value("step", Datatype.INT64, []), _value("go_on", Datatype.BOOL, []), _value("before", Datatype.FP32, None)],
        [_value("go_on_out", Datatype.BOOL, []), _value("after", Datatype.FP32, None)],
    )
    nodes = [
        helper.make_node("ReduceMax", ["steps"], ["count"], keepdims=0),
        helper.make_node("Loop", ["count", "", "turn"], ["turned"], body=body),
        # The result must depend on the loop, or onnxruntime would leave it out: its trace's share is nothing.
        helper.make_node("ReduceMin", ["turned"], ["least"], keepdims=0),
        helper.make_node("Cast", ["least"], ["nothing"], to=TensorProto.INT64),
        helper.make_node("Add", ["steps", "nothing"], ["done"]),
    ]
    turn = helper.make_tensor("turn", TensorProto.FLOAT, [side, side], np.roll(np.eye(side), 1, 0).ravel().tolist())
    steps = [5000, 1]
    golden = GoldenRows(("a", "b"), {"steps": steps}, {"done": steps})
    return Model(
        _manifest("slow", features, (output,)), _serialised(nodes, features, [output], initializer=[turn]), golden
    )


def external_data(place: str, location: str = "weights.bin") -> bytes:
    """Return the tiny model with a weight in another file: an initializer, a sparse one, or one of a subgraph."""
    weight = helper.make_tensor("base", TensorProto.FLOAT, [1], [1.0])
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "4"}.items():
        weight.external_data.add(key=key, value=value)
    value, total = (_value(name, Datatype.FP32, ["rows"]) for name in ("value", "total"))
    addition = helper.make_node("Add", ["base", "value"], ["total"])
    if place == "subgraph":
        inner = helper.make_graph([addition], "inner", [], [total], [weight])
        always = helper.make_tensor("always", TensorProto.BOOL, [], [True])
        branches = {"then_branch": inner, "else_branch": inner}
        node = helper.make_node("If", ["always"], ["total"], **branches)
        return _model(helper.make_graph([node], "external", [value], [total], [always]), checked=False)
    graph = helper.make_graph([addition], "external", [value], [total], [weight] if place == "initializer" else [])
    if place == "sparse":
        indices = helper.make_tensor("indices", TensorProto.INT64, [1], [0])
        graph.sparse_initializer.append(helper.make_sparse_tensor(weight, indices, [1]))
    return _model(graph, checked=False)


def _row(feature: Feature) -> list[Any]:
    """Return two rows of golden values, extremes of the type among them."""
    if feature.datatype.holds_bytes:
        values: list[Any] = ["left", "right"]
    elif feature.datatype is Datatype.BOOL:
        values = [True, False]
    elif feature.datatype.is_float:
        values = [-1.5, 2.25]
    else:
        limits = np.iinfo(feature.datatype.dtype)
        values = [int(limits.min), int(limits.max)]
    for size in reversed(feature.shape):
        values = [[value] * size for value in values]
    return values


def _manifest(name: str, features: FeatureSet, outputs: tuple[TensorSpec, ...]) -> Manifest:
    return Manifest(name, "onnx", features, outputs)


def _serialised(
    nodes: Sequence[NodeProto],
    features: FeatureSet,
    outputs: Sequence[TensorSpec],
    initializer: Sequence[TensorProto] = (),
) -> bytes:
    inputs = [_value(f.name, f.datatype, ["rows", *f.shape]) for f in features.model_inputs]
    results = [_value(spec.name, spec.datatype, ["rows", *spec.shape[1:]]) for spec in outputs]
    return _model(helper.make_graph(list(nodes), "graph", inputs, results, list(initializer)))


def _model(graph: GraphProto, *, checked: bool = True) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    if checked:
        checker.check_model(model)
    return bytes(model.SerializeToString())


def _value(name: str, datatype: Datatype, shape: Sequence[str | int] | None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, _ELEMENT_TYPES[datatype], shape)
