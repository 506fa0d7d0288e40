"""The runtimes of this repo, by artifact format."""

from __future__ import annotations

from serving.adapters.runtime.onnx import OnnxRuntime
from serving.domain.artifacts import Artifact
from serving.domain.ports import ModelRuntime


def load_runtime(artifact: Artifact, *, threads: int) -> ModelRuntime:
    """Load the model of a verified artifact; `threads` bounds the threads of one call."""
    return {"onnx": OnnxRuntime.load}[artifact.manifest.format](artifact, threads=threads)
