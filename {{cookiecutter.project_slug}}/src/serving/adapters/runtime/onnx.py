"""Run an ONNX model in this process with onnxruntime."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

# Since 1.29 the published wheels send usage data to the vendor and write a device id to the home folder, unless this is
# set before the import. A server that handles personal data must not do that.
# https://github.com/microsoft/onnxruntime/pull/27379
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from serving.adapters.runtime.dispatcher import Dispatcher, Stop
from serving.domain.artifacts import Artifact
from serving.domain.errors import ArtifactError, InvalidRequest, ModelFailed, quoted
from serving.domain.tensors import Datatype, Tensor, Tensors, TensorSpec

_SHOWN, _NAMED = 200, 3
_EXTERNAL = "model_path|[Ee]xternal [Dd]ata|external TensorProto|should be stored in"

_ONNX_TYPES = {
    Datatype.BOOL: "tensor(bool)",
    Datatype.FP16: "tensor(float16)",
    Datatype.FP32: "tensor(float)",
    Datatype.FP64: "tensor(double)",
    Datatype.BYTES: "tensor(string)",
    Datatype.TEXT: "tensor(string)",
    **{d: f"tensor({d.value.lower()})" for d in Datatype if d.value.lstrip("U").startswith("INT")},
}


class OnnxRuntime:
    """Hold one inference session; short calls run on the event loop, long ones in a worker thread.

    onnxruntime ends a call between two nodes of the graph, or two steps of a loop.
    """

    concurrency = 1

    def __init__(self, session: onnxruntime.InferenceSession, outputs: dict[str, str]) -> None:
        """Hold a session; `outputs` are the names of outputs by those in the graph."""
        self._session = session
        self._outputs = outputs
        self._texts = [node.name for node in session.get_inputs() if node.type == "tensor(string)"]
        self._placement = Dispatcher(self._run, onnxruntime.RunOptions)

    @classmethod
    def load(cls, artifact: Artifact, *, threads: int) -> OnnxRuntime:
        """Load the verified bytes of an artifact.

        A model that points at other files is refused: the digest does not cover those.

        :raises ArtifactError: onnxruntime refuses the model, or it does not take and give what its manifest says
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # By default, a model loaded from bytes reads such files relative to the working directory.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        options.log_severity_level = 4  # errors are raised; its other log lines are not JSON
        try:
            session = onnxruntime.InferenceSession(artifact.model, options, providers=["CPUExecutionProvider"])
        except _OnnxErrors as error:
            raise ArtifactError(
                f"artifact {artifact.digest}: onnxruntime {onnxruntime.__version__} refuses its model.onnx: "
                f"{_cause(error)}."
            ) from error
        features, outputs = artifact.manifest.features, artifact.manifest.outputs
        in_graph = [replace(spec, name=features.graph_output(spec.name)) for spec in outputs]
        for side, declared, actual in (
            ("input", [feature.spec for feature in features.model_inputs], session.get_inputs()),
            ("output", in_graph, session.get_outputs()),
        ):
            _compare(artifact.digest, side, declared, actual)
        return cls(session, {value.name: spec.name for value, spec in zip(in_graph, outputs, strict=True)})

    async def warm_up(self, inputs: Tensors, max_rows: int) -> None:
        """Time the model on batches of growing size; this also fills its caches."""
        await self._placement.measure(inputs, max_rows)

    async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
        """Run the model on one batch."""
        return await self._placement.run(inputs, timeout=timeout)

    async def close(self) -> None:
        """Accept no more work; do not wait for running calls."""
        self._placement.close()

    def _run(self, inputs: Tensors, stop: Stop) -> Tensors:
        feed = {**inputs, **{name: _as_text(name, inputs[name]) for name in self._texts}} if self._texts else inputs
        try:
            results = self._session.run(list(self._outputs), feed, stop)
        except _OnnxErrors as error:
            raise ModelFailed(f"onnxruntime: {error}") from error
        names = self._outputs.values()
        return {name: _as_bytes(np.asarray(result)) for name, result in zip(names, results, strict=True)}


_OnnxErrors: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    TypeError,
    *(kind for kind in vars(onnxruntime_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)
"""What onnxruntime raises: built-in exceptions and its own classes, which derive from Exception only."""


def _as_text(name: str, tensor: Tensor) -> Tensor:
    """Return BYTES as text: ONNX has strings instead."""
    try:
        return cast("Tensor", _TO_TEXT(tensor))
    except UnicodeDecodeError:
        raise InvalidRequest(f"input {quoted(name)}: an element is not UTF-8, and this model takes text.") from None


def _as_bytes(tensor: Tensor) -> Tensor:
    return cast("Tensor", _TO_BYTES(tensor)) if tensor.dtype == object else tensor


_TO_TEXT = np.frompyfunc(bytes.decode, 1, 1)
_TO_BYTES = np.frompyfunc(str.encode, 1, 1)


def _cause(error: Exception) -> str:
    """Return onnxruntime's reason, without codes and places in its source, and the way out of a common one."""
    text = " ".join(str(error).split())
    reason = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/\S+\.cc:\d+ \S+\(.*?\) ", "", text).rstrip("., ")
    out = "; export it as one file, without external data" if re.search(_EXTERNAL, text) else ""
    return f"{ascii(reason[:_SHOWN])[1:-1]}{out}"


def _compare(digest: str, side: str, declared: object, actual: object) -> None:
    """Refuse a model whose inputs or outputs are not the declared ones; name the first few that differ."""
    want = {spec.name: _form(_ONNX_TYPES[spec.datatype], spec.shape) for spec in cast("list[TensorSpec]", declared)}
    have = {node.name: _form(node.type, node.shape) for node in cast("list[onnxruntime.NodeArg]", actual)}
    differ = [name for name in sorted(want | have) if want.get(name) != have.get(name)]
    if differ:
        faults = [
            f"{side} {name} is {have.get(name, 'missing')}, declared is {want.get(name, 'nothing')}"
            for name in differ[:_NAMED]
        ]
        more = f" and {len(differ) - _NAMED} more" if len(differ) > _NAMED else ""
        raise ArtifactError(
            f"artifact {digest}: model.onnx does not fit its manifest: {'; '.join(faults)}{more}. Declare features and "
            "outputs as the model has them, and train or import it again."
        )


def _form(kind: str, shape: Sequence[object]) -> str:
    return f"{kind} of {len(shape)} dimensions"
