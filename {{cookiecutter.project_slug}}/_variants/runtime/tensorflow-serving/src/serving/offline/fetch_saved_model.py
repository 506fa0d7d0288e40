"""Fetch the pinned version, then unpack its SavedModel where TensorFlow Serving looks for versions.

    <models>/<name>/<version>/saved_model.pb

TensorFlow Serving loads what is new by itself, and unloads what is gone. The version before the pinned one stays: while
a deployment overlaps, both are asked. So do the versions of running servers, which RUNNING_VERSIONS names.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from serving.adapters.runtime.tensorflow_serving.runtime import version_of
from serving.adapters.runtime.tensorflow_serving.saved_model import unpack
from serving.domain.artifacts import artifact_folder, open_artifact
from serving.domain.references import Reference
from serving.domain.settings import shared_settings
from serving.offline import model_version, project

_KEPT = 2
_RUNNING = "RUNNING_VERSIONS"


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
        folder = options.models / artifact.manifest.model / str(version_of(artifact.digest))
        unpack(artifact.model, folder)
        running = map(Reference.parse, os.environ.get(_RUNNING, "").split())
        keep_newest(folder, [version_of(version.digest) for version in running])
    return 0


def keep_newest(pinned: Path, running: Sequence[int] = ()) -> None:
    """Remove all versions but the pinned one, the one that was pinned before it, and those of running servers."""
    os.utime(pinned)
    keep = set(map(str, running))
    versions = [path for path in pinned.parent.iterdir() if path.name.isdecimal() and path.name not in keep]
    for outdated in sorted(versions, key=lambda path: path.stat().st_mtime_ns)[:-_KEPT]:
        shutil.rmtree(outdated)


if __name__ == "__main__":
    project.run(main)
