"""The runtimes that this repo can serve a model with, by the format of its artifact."""

from __future__ import annotations

from serving.adapters.runtime.onnx import OnnxRuntime
from serving.domain.artifacts import Artifact
from serving.domain.ports import ModelRuntime


def load_runtime(artifact: Artifact, *, threads: int) -> ModelRuntime:
    """Load the model of a verified artifact; `threads` is how many it may use for one call."""
    return {"onnx": OnnxRuntime.load}[artifact.manifest.format](artifact, threads=threads)
