"""Import model versions from a Neptune export, when the server is gone.

    python -m tools.neptune_export DATA FILES

DATA and FILES are the folders of `neptune-exporter export-models`: its Parquet and the versions' files. Only versions
that this repo's adapter stored are imported: their digest verifies every byte. They go to the registry in
MODEL_REGISTRY, by default the local one, in the order of their numbers; existing versions stay as they are. Promotions
are not imported: promote the version to serve.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.adapters.model_registry.neptune import FILES, SCHEME, name_model
from serving.domain.artifacts import open_artifact
from serving.domain.errors import ArtifactError, OperatorError
from serving.domain.lineage import LINEAGE
from serving.domain.references import Reference, is_digest
from serving.offline import project
from serving.offline.bootstrap import default_scheme, open_registry
from tools import read_export
from tools.environment import Environment
from tools.process import SetupError

_TIMEOUT_S = 300.0
_ENVIRONMENT = project.ROOT / "build" / "import" / ".venv"


def main(arguments: Sequence[str] | None = None) -> int:
    """Register every complete version of an export; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.neptune_export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, help="folder of the exporter's Parquet files")
    parser.add_argument("files", type=Path, help="folder of the exported files")
    options = parser.parse_args(arguments)
    versions = _versions(options.data)
    if not versions:
        raise OperatorError(f"{options.data}: holds no version that this repo stored; name the exporter's --data-path.")
    registry = open_registry(default_scheme(), project.REGISTRY)
    for version in sorted(versions, key=lambda version: (version["project"], _number(version["id"]))):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "artifact"
            _gather(version, options.files, folder)
            manifest = open_artifact(folder, version["digest"]).manifest
            origin = Reference(SCHEME, manifest.model, str(_number(version["id"])), version["digest"])
            print(registry.register(manifest.model, folder, version["digest"], origin=str(origin)))
    return 0


def _interpreter() -> Path:
    """Make the environment that reads Parquet, and return its interpreter."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return Environment(_ENVIRONMENT).ensure([project.ROOT / "requirements" / "import.txt"])
    except SetupError as error:
        raise OperatorError(str(error)) from None


def _versions(data: Path) -> list[dict[str, Any]]:
    if not data.is_dir():
        raise OperatorError(f"{data}: is not a folder; name the exporter's --data-path.")
    command = [str(_interpreter()), "-I", str(read_export.__file__), str(data)]
    try:
        done = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise OperatorError(f"{data}: was not read within {_TIMEOUT_S:g} s.") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise OperatorError(
            f"{data}: holds Parquet files that the exporter did not write ({last}); name its --data-path."
        ) from None
    versions: list[dict[str, Any]] = json.loads(done.stdout)
    for version in versions:
        if not is_digest(str(version["digest"])):
            raise OperatorError(
                f"{data}: the digest of {version['id']} is not sha256=<64 hex digits>; export it again."
            )
    return versions


def _gather(version: Mapping[str, Any], files: Path, folder: Path) -> None:
    """Copy a version's files to a new folder, under their names in an artifact."""
    folder.mkdir()
    for path, name in FILES.items():
        if path not in version["files"]:
            if name == LINEAGE:
                continue
            raise ArtifactError(f"{version['id']}: its file {path} was not exported; export it again.")
        relative = version["files"][path]
        source = files / _part(version["project"]) / relative
        if not source.resolve().is_relative_to(files.resolve()) or not source.is_file():
            raise ArtifactError(f"{version['id']}: {relative} is not below {files}; name the exporter's --files-path.")
        shutil.copyfile(source, folder / name)
    name_model(folder)


def _part(text: str) -> str:
    """Return the exporter's folder name for a project."""
    safe = "".join(character if character.isalnum() or character in "_-" else "_" for character in text)
    return f"{safe}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def _number(version_id: str) -> int:
    """Return the number of a version id: 3 of SRV-KEY-3."""
    last = version_id.rpartition("-")[2]
    return int(last) if last.isdecimal() else 0


if __name__ == "__main__":
    project.run(main)
