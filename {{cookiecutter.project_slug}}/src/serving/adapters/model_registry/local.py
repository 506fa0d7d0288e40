"""The embedded model registry: a folder per version.

    <root>/<model>/<version>/
      artifact/         as `serving.domain.artifacts` writes it
      record.json       written last: a version without it does not exist
    <root>/<model>/promotions/<number>.json

The folder may be on a network share. Creating a version's folder and linking a promotion are exclusive operations, so
two writers never get the same number. The number in model.lock is reserved for the artifact it pins, which a clone
does not have yet.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from serving.adapters.model_registry.records import parse_promotion
from serving.domain.artifacts import copy_artifact
from serving.domain.errors import ArtifactError, RegistryError, StalePromotion
from serving.domain.files import write_synced
from serving.domain.ports import ModelRecord, Promotion, RegisteredVersion
from serving.domain.references import Reference, find_lock, is_digest

SCHEME = "local"
_RECORD = "record.json"
_ARTIFACT = "artifact"
_PROMOTIONS = "promotions"
_MAX_ATTEMPTS = 100


class LocalRegistry:
    """Keep model versions below a folder; a disk answers at once, so no timeout is needed here.

    `lock` is the model.lock whose number is reserved.
    """

    def __init__(self, root: Path, lock: Path | None = None) -> None:
        self._root = root
        self._lock = lock

    def read(self, model: str, *, timeout: float) -> ModelRecord:
        """Return all complete versions and all promotions; leftovers of a crash are skipped."""
        versions = [self._record(model, number) for number in self._numbers(model) if self._is_complete(model, number)]
        return ModelRecord(tuple(versions), tuple(self._promotions(model)))

    def add(self, model: str, artifact: Path, digest: str, origin: str, *, timeout: float) -> RegisteredVersion:
        """Store an artifact as the next version, or under the number that model.lock pins for it."""
        folder = self._claim(model, digest)
        target = folder / _ARTIFACT
        target.mkdir()
        copy_artifact(artifact, target, digest)
        registered_at = datetime.now(UTC).isoformat(timespec="seconds")
        staged = folder / f".{_RECORD}"
        write_synced(staged, _json({"digest": digest, "registered_at": registered_at, "origin": origin}))
        staged.replace(folder / _RECORD)
        return RegisteredVersion(Reference(SCHEME, model, folder.name, digest), registered_at, origin)

    def download(self, version: Reference, folder: Path, *, timeout: float) -> None:
        """Copy a version's files into an empty folder."""
        copy_artifact(self._root / version.model / version.version / _ARTIFACT, folder, version.digest)

    def append(self, model: str, promotion: Promotion, *, timeout: float) -> None:
        """Record a promotion."""
        folder = self._root / model / _PROMOTIONS
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=folder) as staging:
            staged = Path(staging, "promotion")
            write_synced(staged, _json(asdict(promotion)))
            try:
                os.link(staged, folder / f"{promotion.number}.json")
            except FileExistsError:
                raise StalePromotion(
                    f"{SCHEME}:{model}@{promotion.stage}: another promotion came first; check it, then promote again."
                ) from None
            except OSError as error:
                raise RegistryError(
                    f"{folder}: a promotion can't be recorded ({error.strerror}); keep the registry on a file system "
                    "with hard links, such as a local disk."
                ) from error

    def _claim(self, model: str, digest: str) -> Path:
        """Create the folder of the next version number; creating it claims the number."""
        parent = self._root / model
        parent.mkdir(parents=True, exist_ok=True)
        reserved, owner = self._reserved(model)
        for _ in range(_MAX_ATTEMPTS):
            numbers = self._numbers(model)
            number = reserved if digest == owner and reserved not in numbers else max([*numbers, reserved]) + 1
            folder = parent / str(number)
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
        raise ArtifactError(f"{parent}: no free version number after {_MAX_ATTEMPTS} attempts; try again.")

    def _reserved(self, model: str) -> tuple[int, str]:
        """Return the pinned version number and its digest; 0 if model.lock pins none of this model."""
        pinned = find_lock(self._lock) if self._lock else None
        if pinned and (pinned.scheme, pinned.model) == (SCHEME, model) and pinned.version.isdecimal():
            return int(pinned.version), pinned.digest
        return 0, ""

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
            digest, registered_at, origin = record["digest"], record["registered_at"], record.get("origin", "")
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise ArtifactError(
                f"{path}: can't be read ({type(error).__name__}); restore it or remove its folder."
            ) from None
        if not is_digest(str(digest)):
            raise ArtifactError(f"{path}: digest is not sha256=<64 hex digits>; restore it or remove its folder.")
        return RegisteredVersion(Reference(SCHEME, model, str(number), digest), str(registered_at), str(origin))

    def _promotions(self, model: str) -> Iterator[Promotion]:
        paths = (self._root / model / _PROMOTIONS).glob("[0-9]*.json")
        for path in sorted(paths, key=lambda path: int(path.stem)):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise ArtifactError(f"{path}: can't be read ({type(error).__name__}); restore it.") from None
            yield parse_promotion(content, f"{path}:")


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
