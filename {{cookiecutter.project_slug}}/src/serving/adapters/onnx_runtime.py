"""Run an ONNX model in this process with onnxruntime."""

from __future__ import annotations

from typing import cast

import numpy as np
import onnxruntime

from serving.artifacts import Artifact
from serving.domain import Datatype, Tensors, TensorSpec
from serving.errors import ArtifactError, ModelFailed
from serving.placement import Placement

_ONNX_TYPES = {
    Datatype.BOOL: "tensor(bool)",
    Datatype.FP16: "tensor(float16)",
    Datatype.FP32: "tensor(float)",
    Datatype.FP64: "tensor(double)",
    Datatype.BYTES: "tensor(string)",
    **{d: f"tensor({d.value.lower()})" for d in Datatype if d.value.lstrip("U").startswith("INT")},
}


class OnnxRuntime:
    """Hold one inference session; short calls run on the event loop, long ones in a thread of their own."""

    def __init__(self, session: onnxruntime.InferenceSession, outputs: list[str]) -> None:
        self._session = session
        self._outputs = outputs
        self._placement = Placement(self._run)

    @classmethod
    def load(cls, artifact: Artifact, *, threads: int) -> OnnxRuntime:
        """Load the verified bytes of an artifact.

        Loading from bytes leaves onnxruntime without a folder to resolve external data against, so a model that
        points at other files is refused whatever it points at.

        :raises ArtifactError: onnxruntime refuses the model, or it does not take and give what its manifest says
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what matters is raised; the rest would be lines that are no JSON
        try:
            session = onnxruntime.InferenceSession(artifact.model, options, providers=["CPUExecutionProvider"])
        except _OnnxErrors as error:
            raise ArtifactError(
                f"artifact {artifact.digest}: onnxruntime {onnxruntime.__version__} refuses its model.onnx "
                f"({type(error).__name__}); export it as one file, without external data."
            ) from error
        manifest = artifact.manifest
        inputs = [feature.spec for feature in manifest.features.model_inputs]
        for side, declared, actual in (
            ("input", inputs, session.get_inputs()),
            ("output", manifest.outputs, session.get_outputs()),
        ):
            _compare(artifact.digest, side, declared, actual)
        return cls(session, [spec.name for spec in manifest.outputs])

    async def warm_up(self, inputs: Tensors, max_rows: int) -> None:
        """Time the model on batches of growing size, which also fills its caches."""
        self._placement.measure(inputs, max_rows)

    async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
        """Run the model on one batch."""
        return await self._placement.run(inputs, timeout=timeout)

    async def close(self) -> None:
        """Wait for nothing, take no more work."""
        self._placement.close()

    def _run(self, inputs: Tensors) -> Tensors:
        feed = {name: _as_text(tensor) if tensor.dtype == object else tensor for name, tensor in inputs.items()}
        try:
            results = self._session.run(self._outputs, feed)
        except _OnnxErrors as error:
            raise ModelFailed(f"onnxruntime: {error}") from error
        return dict(zip(self._outputs, map(np.asarray, results), strict=True))


_OnnxErrors = (RuntimeError, ValueError, TypeError, NotImplementedError)
"""onnxruntime raises these (its own classes derive from RuntimeError); anything else is a bug of ours."""


def _as_text(tensor: np.ndarray[tuple[int, ...], np.dtype[np.object_]]) -> object:
    flat = [cast("bytes", item).decode("utf-8", "surrogateescape") for item in tensor.flat]
    return np.array(flat, dtype=object).reshape(tensor.shape)


def _compare(digest: str, side: str, declared: object, actual: object) -> None:
    want = {spec.name: (_ONNX_TYPES[spec.datatype], len(spec.shape)) for spec in cast("list[TensorSpec]", declared)}
    have = {node.name: (node.type, len(node.shape)) for node in cast("list[onnxruntime.NodeArg]", actual)}
    if want != have:
        raise ArtifactError(
            f"artifact {digest}: the {side}s of model.onnx are {have}, its manifest declares {want}; train it again."
        )
