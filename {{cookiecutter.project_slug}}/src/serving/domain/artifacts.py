"""Artifacts: a folder with a model and all that is needed to serve it, addressed by the digest of its manifest.

    <digest hex>/
      manifest.json     what the others are: features, outputs, sha256 and size of model and golden rows
      model.<format>    the model, one file, such as model.onnx
      golden.json       rows with known answers, replayed before the service says it is ready
      version.json      how it was made: `serving.domain.lineage`; not covered by the digest, and may be missing

The digest covers what answers. None of that is loaded before its sha256 was compared, and what is loaded are the very
bytes that were compared.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from pydantic import TypeAdapter, ValidationError

from serving.domain.errors import ArtifactError, quoted
from serving.domain.features import FeatureSet
from serving.domain.files import read_bounded, write_synced
from serving.domain.lineage import LINEAGE, Lineage, read_lineage, write_lineage
from serving.domain.tensors import Tensor, Tensors, TensorSpec

MANIFEST = "manifest.json"
GOLDEN = "golden.json"
FORMATS = re.compile("[a-z]{1,32}")
"""What a format's name looks like; `serving.adapters.runtime` knows those that this repo serves."""

FILES = re.compile(rf"model\.{FORMATS.pattern}|(golden|manifest|version)\.json")
"""What the files of an artifact are called."""

SCHEMA_VERSION = 2
"""Version of the manifest format. Version 1 included the lineage, so equal models had different digests."""

_MAX_MANIFEST_BYTES = 1 << 20
_STAGING, _LEFT_OVER_S = ".staging-", 86_400
_MAX_FILE_BYTES = 2 << 30

_T = TypeVar("_T")


@dataclass(frozen=True)
class FileEntry:
    """Declare one file of an artifact."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """Describe an artifact; the sha256 of these bytes is the artifact's digest."""

    model: str
    format: str
    features: FeatureSet
    outputs: tuple[TensorSpec, ...]
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class GoldenRows:
    """Hold model inputs with the outputs of the training framework for them.

    `entities` are the keys the rows had in the training data. BYTES are text here, as UTF-8, and NaN is null. Two
    answers agree within rtol * |expected| + atol.
    """

    entities: tuple[str, ...]
    inputs: Mapping[str, list[Any]]
    outputs: Mapping[str, list[Any]]
    rtol: float = 1e-4
    atol: float = 1e-6


@dataclass(frozen=True)
class Artifact:
    """Hold a verified artifact: manifest, verified bytes and lineage."""

    digest: str
    manifest: Manifest
    model: bytes
    golden: GoldenRows
    lineage: Lineage

    def golden_inputs(self) -> Tensors:
        """Return the golden rows as model inputs."""
        return {
            feature.name: _tensor(self.golden.inputs[feature.name], feature.spec)
            for feature in self.manifest.features.model_inputs
        }

    def golden_outputs(self) -> Tensors:
        """Return the expected outputs for `golden_inputs`."""
        return {spec.name: _tensor(self.golden.outputs[spec.name], spec) for spec in self.manifest.outputs}


def write_artifact(folder: Path, manifest: Manifest, model: bytes, golden: GoldenRows, lineage: Lineage) -> str:
    """Write an artifact into a new folder, its manifest last; return its digest."""
    folder.mkdir(parents=True)
    write_lineage(folder, lineage)
    contents = {model_file(manifest): model, GOLDEN: _json(asdict(golden))}
    files = {name: FileEntry(_sha256(content), len(content)) for name, content in contents.items()}
    contents[MANIFEST] = _json({**asdict(manifest), "files": {name: asdict(entry) for name, entry in files.items()}})
    for name, content in contents.items():
        write_synced(folder / name, content)
    return f"sha256={_sha256(contents[MANIFEST])}"


def open_artifact(folder: Path, digest: str) -> Artifact:
    """Read and verify the artifact in a folder.

    :raises ArtifactError: a file is missing, unexpected, a link, or does not match its digest
    """
    raw_manifest = read_bounded(folder / MANIFEST, _MAX_MANIFEST_BYTES)
    actual = f"sha256={_sha256(raw_manifest)}"
    if actual != digest:
        raise ArtifactError(
            f"{folder / MANIFEST}: digest is {actual}, must be {digest}; fetch it again (`make versions ARGS=fetch`)."
        )
    manifest = _parse(Manifest, raw_manifest, folder / MANIFEST)
    if manifest.schema_version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{folder / MANIFEST}: schema_version is {manifest.schema_version}, this release reads {SCHEMA_VERSION}; "
            "train it again."
        )
    _check_format(manifest, folder)
    expected = {model_file(manifest), GOLDEN}
    if set(manifest.files) != expected:
        raise ArtifactError(f"{folder / MANIFEST}: lists {sorted(manifest.files)}, must list {sorted(expected)}.")
    unlisted = sorted({entry.name for entry in folder.iterdir()} - expected - {MANIFEST, LINEAGE})
    if unlisted:
        raise ArtifactError(f"{folder}: holds {quoted(unlisted[0])}, which the manifest {digest} does not list.")
    contents = {name: _verified(folder / name, entry) for name, entry in manifest.files.items()}
    golden = _parse(GoldenRows, contents[GOLDEN], folder / GOLDEN)
    artifact = Artifact(digest, manifest, contents[model_file(manifest)], golden, read_lineage(folder))
    try:
        artifact.golden_inputs(), artifact.golden_outputs()
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(
            f"{folder / GOLDEN}: does not fit the features and outputs that {MANIFEST} declares "
            f"({type(error).__name__}: {quoted(error)}); train it again."
        ) from None
    return artifact


def model_file(manifest: Manifest) -> str:
    """Return the name of the model's file."""
    return f"model.{manifest.format}"


def declared_model(folder: Path) -> str:
    """Return the name of the model's file that a folder's manifest declares; nothing is verified."""
    manifest = _parse(Manifest, read_bounded(folder / MANIFEST, _MAX_MANIFEST_BYTES), folder / MANIFEST)
    _check_format(manifest, folder)
    return model_file(manifest)


def files_of(folder: Path) -> list[Path]:
    """Return the files of an artifact in a folder; other files are left out, and nothing is verified."""
    return sorted(path for path in folder.glob("*") if FILES.fullmatch(path.name))


def artifact_folder(root: Path, digest: str) -> Path:
    """Return the folder of an artifact below a digest-addressed root."""
    return root / digest.removeprefix("sha256=")


def copy_artifact(source: Path, target: Path, digest: str) -> None:
    """Copy an artifact into an empty folder and verify the copy; other files are not copied."""
    for path in files_of(source):
        if path.name != LINEAGE:
            write_synced(target / path.name, read_bounded(path, _MAX_FILE_BYTES))
    if (lineage := read_lineage(source)) != Lineage():
        write_lineage(target, lineage)
    open_artifact(target, digest)


def install_artifact(root: Path, digest: str, fill: Callable[[Path], None]) -> Path:
    """Let `fill` download an artifact, verify it and move it below a digest-addressed root.

    An existing artifact that verifies is kept; one that does not is replaced. The folder is renamed into place at the
    end, so readers never see a partial one. On failure the existing folder stays.
    """
    target = artifact_folder(root, digest)
    if is_intact(target, digest):
        return target
    root.mkdir(parents=True, exist_ok=True)
    _remove_left_overs(root)
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=root))
    try:
        arriving = staging / "arriving"
        arriving.mkdir()
        fill(arriving)
        open_artifact(arriving, digest)
        arriving.chmod(0o755)
        if target.exists() and not is_intact(target, digest):
            target.replace(staging / "broken")
        try:
            arriving.replace(target)
        except OSError:
            if not target.exists():
                raise
            open_artifact(target, digest)  # another process was faster
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _remove_left_overs(root: Path) -> None:
    """Remove what a download left that was killed; a running one is younger."""
    for left in root.glob(f"{_STAGING}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _LEFT_OVER_S:
                shutil.rmtree(left, ignore_errors=True)


def is_intact(folder: Path, digest: str) -> bool:
    """Return whether a folder holds the complete artifact with this digest."""
    try:
        open_artifact(folder, digest)
    except ArtifactError:
        return False
    return True


def _check_format(manifest: Manifest, folder: Path) -> None:
    if not FORMATS.fullmatch(manifest.format):
        raise ArtifactError(f"{folder / MANIFEST}: {quoted(manifest.format)} is no format; train it again.")


def _verified(path: Path, entry: FileEntry) -> bytes:
    content = read_bounded(path, entry.size)
    if len(content) != entry.size or _sha256(content) != entry.sha256:
        raise ArtifactError(
            f"{path}: sha256 is {_sha256(content)} ({len(content)} bytes), the manifest says {entry.sha256} "
            f"({entry.size} bytes); fetch the artifact again (`make versions ARGS=fetch`)."
        )
    return content


def _parse(kind: type[_T], content: bytes, path: Path) -> _T:
    try:
        return cast("_T", _adapter(kind).validate_json(content))
    except (ValidationError, ValueError) as error:
        raise ArtifactError(f"{path}: is not a {kind.__name__} ({quoted(str(error).splitlines()[0], 120)}).") from None


_adapter: Callable[[Any], TypeAdapter[Any]] = functools.cache(TypeAdapter)
"""Cached: building an adapter takes milliseconds, using it microseconds."""


def _tensor(values: list[Any], spec: TensorSpec) -> Tensor:
    tensor = np.asarray(values, spec.dtype)
    if spec.datatype.holds_bytes:
        tensor = np.asarray(np.frompyfunc(str.encode, 1, 1)(tensor), object)
    return tensor


def _json(value: Any) -> bytes:
    """Serialise with sorted keys, so that equal content has an equal digest."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
