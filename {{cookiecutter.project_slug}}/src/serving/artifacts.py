"""Artifacts: a folder with a model and all that is needed to serve it, addressed by the digest of its manifest.

    <digest hex>/
      manifest.json     what the others are: sha256 and size of each, features, outputs, lineage
      model.onnx        the model, one file, no external data
      golden.json       rows with known answers, replayed before the service says it is ready

Nothing is loaded before its sha256 was compared, and what is loaded are the very bytes that were compared.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from pydantic import TypeAdapter, ValidationError

from serving.domain import Datatype, Tensor, Tensors, TensorSpec
from serving.errors import ArtifactError, quoted
from serving.features import FeatureSet

MANIFEST = "manifest.json"
GOLDEN = "golden.json"
MODEL_FILES = {"onnx": "model.onnx"}
"""The formats that can be served, each with the one file it consists of. Pickle is not among them, and won't be."""

# Follow no link, and wait for no writer: opening a named pipe would otherwise never end.
_READ_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_MAX_MANIFEST_BYTES = 1 << 20
_MAX_FILE_BYTES = 2 << 30

_T = TypeVar("_T")


@dataclass(frozen=True)
class FileEntry:
    """Say what one file of an artifact must be."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Lineage:
    """Say where a model came from."""

    git_commit: str
    data_digest: str
    parameters: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """Describe an artifact; the sha256 of these bytes is the artifact's digest."""

    model: str
    description: str
    format: str
    features: FeatureSet
    outputs: tuple[TensorSpec, ...]
    lineage: Lineage
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    schema_version: int = 1


@dataclass(frozen=True)
class GoldenRows:
    """Hold model inputs with the answers the training framework itself gave for them.

    `entities` are the keys the rows had in the training data; BYTES are text here, as UTF-8. Two answers agree within
    rtol * |expected| + atol.
    """

    entities: tuple[str, ...]
    inputs: Mapping[str, list[Any]]
    outputs: Mapping[str, list[Any]]
    rtol: float = 1e-4
    atol: float = 1e-6


@dataclass(frozen=True)
class Artifact:
    """Hold a verified artifact: its manifest and the bytes that the manifest vouches for."""

    digest: str
    manifest: Manifest
    model: bytes
    golden: GoldenRows

    def golden_inputs(self) -> Tensors:
        """Return the golden rows as the tensors that the model takes."""
        return {
            feature.name: _tensor(self.golden.inputs[feature.name], feature.spec)
            for feature in self.manifest.features.model_inputs
        }

    def golden_outputs(self) -> Tensors:
        """Return the answers that the model must give for `golden_inputs`."""
        return {spec.name: _tensor(self.golden.outputs[spec.name], spec) for spec in self.manifest.outputs}


def write_artifact(folder: Path, manifest: Manifest, model: bytes, golden: GoldenRows) -> str:
    """Write an artifact into a new folder, its manifest last; return its digest."""
    folder.mkdir(parents=True)
    contents = {MODEL_FILES[manifest.format]: model, GOLDEN: _json(asdict(golden))}
    files = {name: FileEntry(_sha256(content), len(content)) for name, content in contents.items()}
    contents[MANIFEST] = _json({**asdict(manifest), "files": {name: asdict(entry) for name, entry in files.items()}})
    for name, content in contents.items():
        write_synced(folder / name, content)
    return f"sha256={_sha256(contents[MANIFEST])}"


def open_artifact(folder: Path, digest: str) -> Artifact:
    """Read and verify the artifact in a folder.

    :raises ArtifactError: a file is missing, too many, a link, or not the bytes that the digest vouches for
    """
    raw_manifest = _read(folder / MANIFEST, _MAX_MANIFEST_BYTES)
    actual = f"sha256={_sha256(raw_manifest)}"
    if actual != digest:
        raise ArtifactError(f"{folder / MANIFEST}: digest is {actual}, must be {digest}; fetch the artifact again.")
    manifest = _parse(Manifest, raw_manifest, folder / MANIFEST)
    if manifest.format not in MODEL_FILES:
        raise ArtifactError(
            f"{folder / MANIFEST}: format {quoted(manifest.format)} can't be served; use {', '.join(MODEL_FILES)}."
        )
    expected = {MODEL_FILES[manifest.format], GOLDEN}
    if set(manifest.files) != expected:
        raise ArtifactError(f"{folder / MANIFEST}: lists {sorted(manifest.files)}, must list {sorted(expected)}.")
    unlisted = sorted({entry.name for entry in folder.iterdir()} - expected - {MANIFEST})
    if unlisted:
        raise ArtifactError(f"{folder}: holds {quoted(unlisted[0])}, which the manifest {digest} does not list.")
    contents = {name: _verified(folder / name, entry) for name, entry in manifest.files.items()}
    golden = _parse(GoldenRows, contents[GOLDEN], folder / GOLDEN)
    artifact = Artifact(digest, manifest, contents[MODEL_FILES[manifest.format]], golden)
    try:
        artifact.golden_inputs(), artifact.golden_outputs()
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(
            f"{folder / GOLDEN}: does not fit the features and outputs that {MANIFEST} declares "
            f"({type(error).__name__}: {quoted(error)}); train it again."
        ) from None
    return artifact


def artifact_folder(root: Path, digest: str) -> Path:
    """Return where an artifact lies below a root that addresses artifacts by digest."""
    return root / digest.removeprefix("sha256=")


def copy_artifact(source: Path, target: Path, digest: str) -> None:
    """Copy an artifact into an existing empty folder and verify the copy; what does not belong to it stays behind."""
    for name in (*MODEL_FILES.values(), GOLDEN, MANIFEST):
        if (source / name).exists():
            write_synced(target / name, _read(source / name, _MAX_FILE_BYTES))
    open_artifact(target, digest)


def install_artifact(root: Path, digest: str, fill: Callable[[Path], None]) -> Path:
    """Let `fill` bring an artifact into a folder, verify it and move it below a digest-addressed root.

    One that is there already is verified and left alone. The folder is renamed into place at the end, so that no reader
    ever sees half of it; whatever goes wrong, nothing of it remains.
    """
    target = artifact_folder(root, digest)
    if target.exists():
        open_artifact(target, digest)
        return target
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=root))
    try:
        fill(staging)
        open_artifact(staging, digest)
        staging.chmod(0o755)
        try:
            staging.replace(target)
        except OSError:
            if not target.exists():
                raise
            open_artifact(target, digest)  # another one was faster
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _verified(path: Path, entry: FileEntry) -> bytes:
    content = _read(path, entry.size)
    if len(content) != entry.size or _sha256(content) != entry.sha256:
        raise ArtifactError(
            f"{path}: sha256 is {_sha256(content)} ({len(content)} bytes), the manifest says {entry.sha256} "
            f"({entry.size} bytes); fetch the artifact again."
        )
    return content


def _read(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes; follow no link."""
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, _READ_FLAGS)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ArtifactError(f"{path}: is not a regular file.")
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: is missing; fetch the artifact again.") from None
    except OSError as error:
        raise ArtifactError(f"{path}: can't be read ({error.strerror}).") from None
    if len(content) > limit:
        raise ArtifactError(f"{path}: is larger than {limit} bytes, which is all that its manifest or format allows.")
    return content


def _parse(kind: type[_T], content: bytes, path: Path) -> _T:
    try:
        return cast("_T", _adapter(kind).validate_json(content))
    except (ValidationError, ValueError) as error:
        raise ArtifactError(f"{path}: is not a {kind.__name__} ({quoted(str(error).splitlines()[0], 120)}).") from None


_adapter: Callable[[Any], TypeAdapter[Any]] = functools.cache(TypeAdapter)
"""Making one takes milliseconds, reading with it microseconds."""


def _tensor(values: list[Any], spec: TensorSpec) -> Tensor:
    tensor = np.asarray(values, spec.dtype)
    if spec.datatype is Datatype.BYTES:
        tensor = np.frompyfunc(str.encode, 1, 1)(tensor)
    return tensor


def _json(value: Any) -> bytes:
    """Serialise with sorted keys, so that equal content has an equal digest."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
