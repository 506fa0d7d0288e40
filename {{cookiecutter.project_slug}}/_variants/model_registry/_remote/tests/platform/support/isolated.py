"""A registry shared by many tests, with separate models for each."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from serving.domain.ports import ModelRecord, Promotion, RegisteredVersion, RegistryBackend
from serving.domain.references import Reference


class Isolated:
    """Separate the models of each folder by a prefix that only the backend sees."""

    def __init__(self, backend: RegistryBackend, folder: Path) -> None:
        self._backend = backend
        self._prefix = f"t{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}-"

    def there(self, model: str) -> str:
        """Return a model's name on the server."""
        return self._prefix + model

    def read(self, model: str, *, timeout: float) -> ModelRecord:
        record = self._backend.read(self.there(model), timeout=timeout)
        return replace(record, versions=tuple(self._here(version) for version in record.versions))

    def add(self, model: str, artifact: Path, digest: str, origin: str, *, timeout: float) -> RegisteredVersion:
        return self._here(self._backend.add(self.there(model), artifact, digest, origin, timeout=timeout))

    def download(self, version: Reference, folder: Path, *, timeout: float) -> None:
        self._backend.download(replace(version, model=self.there(version.model)), folder, timeout=timeout)

    def append(self, model: str, promotion: Promotion, *, timeout: float) -> None:
        self._backend.append(self.there(model), promotion, timeout=timeout)

    def _here(self, version: RegisteredVersion) -> RegisteredVersion:
        reference = version.reference
        return replace(version, reference=replace(reference, model=reference.model.removeprefix(self._prefix)))
