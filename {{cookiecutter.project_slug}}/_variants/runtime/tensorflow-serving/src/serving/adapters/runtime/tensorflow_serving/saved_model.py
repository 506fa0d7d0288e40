"""A SavedModel as one file, and back: an uncompressed tar that depends on nothing but names and contents."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from serving.domain.errors import ArtifactError, quoted

_UUID = "fingerprint.pb"
"""Holds a random number; TensorFlow loads a model without it."""


def pack(folder: Path) -> bytes:
    """Return the files of a SavedModel as one file."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _UUID):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                packed.addfile(entry, file)
    return target.getvalue()


def unpack(content: bytes, target: Path) -> None:
    """Write the files of a SavedModel to a new folder, complete or not at all; an existing folder is kept.

    :raises ArtifactError: the content is no packed SavedModel, or names a place outside of the folder
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=target.parent))
    try:
        for name, data in _files(content):
            path = staging / "model" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for folder in [staging / "model", *(path for path in staging.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)
        (staging / "model").replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _files(content: bytes) -> list[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as packed:
            return [_file(packed, entry) for entry in packed.getmembers()]
    except tarfile.TarError as error:
        raise ArtifactError(f"model.savedmodel: is no packed SavedModel ({quoted(error)}); train it again.") from None


def _file(packed: tarfile.TarFile, entry: tarfile.TarInfo) -> tuple[str, bytes]:
    path = PurePosixPath(entry.name)
    file = packed.extractfile(entry) if entry.isreg() else None
    if file is None or path.is_absolute() or ".." in path.parts or "\\" in entry.name:
        raise ArtifactError(
            f"model.savedmodel: holds {quoted(entry.name)}, which is no file inside it; train it again."
        )
    return entry.name, file.read()
