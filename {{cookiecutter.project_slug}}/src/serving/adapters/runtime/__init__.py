"""The runtimes of this repo, by artifact format."""

from __future__ import annotations

from serving.adapters.runtime.formats import LOADERS
from serving.domain.artifacts import Artifact
from serving.domain.errors import ArtifactError, quoted
from serving.domain.ports import ModelRuntime


def load_runtime(artifact: Artifact, *, threads: int) -> ModelRuntime:
    """Load the model of a verified artifact; `threads` bounds the threads of one call.

    :raises ArtifactError: this repo has no runtime for its format, or the runtime refuses the model
    """
    kind = artifact.manifest.format
    if kind not in LOADERS:
        raise ArtifactError(
            f"artifact {artifact.digest}: the format {quoted(kind)} can't be served; this repo serves "
            f"{', '.join(LOADERS)}."
        )
    return LOADERS[kind](artifact, threads=threads)
