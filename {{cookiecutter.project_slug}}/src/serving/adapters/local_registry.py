"""The embedded model registry: a folder per version.

    <root>/<model>/<version>/
      artifact/         as `serving.artifacts` writes it
      version.json      written last: a version without it does not exist

The folder may lie on a share. Making the version's folder is the exclusive step, so two writers never get one number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from serving.artifacts import copy_artifact, install_artifact, open_artifact, write_synced
from serving.errors import ArtifactError, UnresolvedReference
from serving.ports import RegisteredVersion
from serving.references import Reference, is_digest

SCHEME = "local"
_RECORD = "version.json"
_ARTIFACT = "artifact"
_MAX_ATTEMPTS = 100


class LocalRegistry:
    """Keep model versions below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def register(self, model: str, artifact: Path, digest: str) -> Reference:
        """Store a verified artifact as the next version; one whose digest is already there keeps its number."""
        open_artifact(artifact, digest)
        for known in self.versions(model):
            if known.reference.digest == digest:
                return known.reference
        folder = self._claim(model)
        target = folder / _ARTIFACT
        target.mkdir()
        copy_artifact(artifact, target, digest)
        record = {"digest": digest, "registered_at": datetime.now(UTC).isoformat(timespec="seconds")}
        staged = folder / f".{_RECORD}"
        write_synced(staged, json.dumps(record, indent=1).encode() + b"\n")
        staged.replace(folder / _RECORD)
        return Reference(SCHEME, model, folder.name, digest)

    def versions(self, model: str) -> Sequence[RegisteredVersion]:
        """Return all complete versions, oldest first; what a crash left half-written is not among them."""
        return [self._record(model, number) for number in self._numbers(model) if self._is_complete(model, number)]

    def resolve(self, reference: Reference) -> Reference:
        """Return the pinned form of a reference."""
        versions = {known.reference.version: known.reference for known in self.versions(reference.model)}
        if not versions:
            raise UnresolvedReference(
                f"model {reference.model}: the registry {self._root} has no version of it; run `make train`."
            )
        if reference.stage:
            raise UnresolvedReference(
                f"{reference}: the local registry has no stages; name a version, it has {', '.join(versions)}."
            )
        found = versions.get(reference.version)
        if found is None:
            raise UnresolvedReference(
                f"{reference}: the registry {self._root} has no such version; it has {', '.join(versions)}."
            )
        if reference.digest and reference.digest != found.digest:
            raise UnresolvedReference(
                f"{reference}: version {found.version} in {self._root} has the digest {found.digest}; "
                f"to serve that one write {found}."
            )
        return found

    def fetch(self, reference: Reference, artifacts: Path) -> Path:
        """Bring a version below a digest-addressed folder, verified."""
        found = self.resolve(reference)
        return install_artifact(self._root / found.model / found.version / _ARTIFACT, artifacts, found.digest)

    def _claim(self, model: str) -> Path:
        """Make the folder of the next version number; the one who makes it owns it."""
        parent = self._root / model
        parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_MAX_ATTEMPTS):
            folder = parent / str(max(self._numbers(model), default=0) + 1)
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
        raise ArtifactError(f"{parent}: no free version number after {_MAX_ATTEMPTS} attempts; try again.")

    def _numbers(self, model: str) -> list[int]:
        parent = self._root / model
        if not parent.is_dir():
            return []
        return sorted(int(entry.name) for entry in parent.iterdir() if entry.name.isdecimal() and entry.is_dir())

    def _is_complete(self, model: str, number: int) -> bool:
        return (self._root / model / str(number) / _RECORD).exists()

    def _record(self, model: str, number: int) -> RegisteredVersion:
        path = self._root / model / str(number) / _RECORD
        try:
            record = cast("dict[str, str]", json.loads(path.read_bytes()))
            digest, registered_at = record["digest"], record["registered_at"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ArtifactError(
                f"{path}: can't be read ({type(error).__name__}); restore it or remove its folder."
            ) from None
        if not is_digest(str(digest)):
            raise ArtifactError(f"{path}: digest is not sha256=<64 hex digits>; restore it or remove its folder.")
        return RegisteredVersion(Reference(SCHEME, model, str(number), digest), str(registered_at))
