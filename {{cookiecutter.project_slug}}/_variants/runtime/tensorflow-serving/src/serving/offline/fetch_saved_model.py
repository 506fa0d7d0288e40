"""Fetch the pinned version, then unpack its SavedModel where TensorFlow Serving looks for versions.

    <models>/<name>/<version>/saved_model.pb

Older versions stay: while a deployment overlaps, both are asked. TensorFlow Serving loads what is new by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from serving.adapters.runtime.tensorflow_serving.runtime import version_of
from serving.adapters.runtime.tensorflow_serving.saved_model import unpack
from serving.domain.artifacts import artifact_folder, open_artifact
from serving.domain.settings import shared_settings
from serving.offline import model_version, project


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, verify and unpack; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving.offline.fetch_saved_model", description=__doc__)
    parser.add_argument("--registry", default=str(project.REGISTRY), help="folder of the local registry")
    parser.add_argument("--artifacts", type=Path, default=project.ARTIFACTS, help="folder of fetched artifacts")
    parser.add_argument("--models", type=Path, required=True, help="folder that TensorFlow Serving reads")
    options = parser.parse_args(arguments)
    code = model_version.main(["--registry", options.registry, "fetch", "--artifacts", str(options.artifacts)])
    if code:
        return code
    reference = shared_settings().reference()
    artifact = open_artifact(artifact_folder(options.artifacts, reference.digest), reference.digest)
    if artifact.manifest.format == "savedmodel":
        unpack(artifact.model, options.models / artifact.manifest.model / str(version_of(artifact.digest)))
    return 0


if __name__ == "__main__":
    project.run(main)
