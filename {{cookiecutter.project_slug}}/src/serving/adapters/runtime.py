"""The runtimes that this repo can serve a model with, by the format of its artifact."""

from __future__ import annotations

from serving.adapters.onnx_runtime import OnnxRuntime
from serving.artifacts import Artifact
from serving.ports import ModelRuntime


def load_runtime(artifact: Artifact, *, threads: int) -> ModelRuntime:
    """Load the model of a verified artifact; `threads` is how many it may use for one call."""
    return {"onnx": OnnxRuntime.load}[artifact.manifest.format](artifact, threads=threads)
