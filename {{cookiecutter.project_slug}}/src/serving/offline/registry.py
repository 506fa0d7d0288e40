"""The rules of every model registry: digests, pinning, promotion history, rollback, copies.

A backend stores files and records and knows none of these rules. Neither Neptune nor MLflow keeps a promotion history,
so this module does: each promotion has a unique number, which can be taken once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from serving.domain.artifacts import artifact_folder, install_artifact, is_intact, open_artifact
from serving.domain.errors import RegistryError, StalePromotion, UnresolvedReference
from serving.domain.ports import ModelRecord, Promotion, RegisteredVersion, RegistryBackend
from serving.domain.references import Reference

CHAMPION = "champion"
STAGES = (CHAMPION, "challenger")
"""`champion` is served; `challenger` may be next."""
NONE = "none"
"""In place of a version: no version holds this stage."""

TIMEOUT_S = 20.0
TRANSFER_TIMEOUT_S = 120.0


class ModelRegistry:
    """Keep model versions in a backend; `timeout` bounds a request, `transfer_timeout` an upload or download."""

    def __init__(
        self,
        scheme: str,
        backend: RegistryBackend,
        *,
        timeout: float = TIMEOUT_S,
        transfer_timeout: float = TRANSFER_TIMEOUT_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._scheme = scheme
        self._backend = backend
        self._timeout = timeout
        self._transfer_timeout = transfer_timeout
        self._now = now

    def register(self, model: str, artifact: Path, digest: str, *, origin: str = "") -> Reference:
        """Store an artifact as the next version; a digest that is already registered keeps its version.

        :raises ArtifactError: the folder does not match the digest
        """
        open_artifact(artifact, digest)
        for known in self._read(model).versions:
            if known.reference.digest == digest:
                return known.reference
        return self._backend.add(model, artifact, digest, origin, timeout=self._transfer_timeout).reference

    def record(self, model: str) -> ModelRecord:
        """Return all complete versions, oldest first, and every promotion and rollback of a model."""
        return self._read(model)

    def versions(self, model: str) -> Sequence[RegisteredVersion]:
        """Return all complete versions of a model, oldest first."""
        return self._read(model).versions

    def holder(self, model: str, stage: str) -> str:
        """Return the version that holds a stage, or `none`."""
        had = promotion_stack(self._read(model).promotions, _known(stage))
        return had[-1].version if had else NONE

    def resolve(self, reference: Reference) -> Reference:
        """Return the pinned form of a reference.

        :raises UnresolvedReference: there is no such version, or it has another digest
        """
        return self._resolve(reference, self._read(reference.model))

    def fetch(self, reference: Reference, artifacts: Path) -> Path:
        """Fetch and verify a pinned version into a digest-addressed folder; a verified copy needs no registry.

        A copy that does not verify is replaced.

        :raises UnresolvedReference: the registry has no such version, or it has another digest
        :raises ArtifactError: the download does not match the digest
        """
        if reference.digest and is_intact(folder := artifact_folder(artifacts, reference.digest), reference.digest):
            return folder
        found = self.resolve(reference)
        return install_artifact(artifacts, found.digest, lambda folder: self._download(found, folder))

    def promote(
        self, reference: Reference, stage: str, *, expect: str, by: str, replaced: str | None = None
    ) -> Promotion:
        """Move a stage to a version; `expect` is its present holder, or `none`.

        `replaced` is the digest that was served before, if that is not the version that has the stage: registries are
        shared by branches and clones, and each has its own model.lock.

        :raises StalePromotion: another version has the stage, or another promotion came first
        """
        record = self._read(reference.model)
        found = self._resolve(reference, record)
        now = promotion_stack(record.promotions, _known(stage))
        has = now[-1].version if now else NONE
        if has != expect:
            raise StalePromotion(
                f"{reference.scheme}:{reference.model}@{stage} is version {has}, not {expect}; "
                f"check it, then promote with --expect {has}."
            )
        if has == found.version:
            return now[-1]
        if replaced is None:
            replaced = now[-1].digest if now else ""
        if replaced == found.digest:  # it is served already, while another branch has the stage
            replaced = _replaced(record, found, stage)
        return self._append(record, found, stage, by, "promote", replaced)

    def previous(self, model: str, stage: str) -> Reference:
        """Return the target of a rollback: the version served before.

        :raises RegistryError: there is none before it, or it is not in this registry
        """
        return self._previous(self._read(model), model, stage)

    def rollback(self, model: str, stage: str, *, by: str) -> Promotion:
        """Move a stage back to the version served before; a second rollback goes one further back.

        :raises RegistryError: there is none before it, or it is not in this registry
        """
        record = self._read(model)
        found = self._previous(record, model, stage)
        return self._append(record, found, stage, by, "rollback", _replaced(record, found, stage))

    def _previous(self, record: ModelRecord, model: str, stage: str) -> Reference:
        had = promotion_stack(record.promotions, _known(stage))
        where = f"{self._scheme}:{model}@{stage} can't be rolled back"
        if not had or not had[-1].replaced:
            only = f"version {had[-1].version} is the first that had it" if had else "no version ever had it"
            raise RegistryError(f"{where}: {only}; promote one instead.")
        wanted = had[-1].replaced
        for entry in reversed(had[:-1]):  # a version may be here twice: the one that had the stage is meant
            if entry.digest == wanted:
                return self._resolve(Reference(self._scheme, model, entry.version, wanted), record)
        for version in record.versions:
            if version.reference.digest == wanted:
                return version.reference
        raise RegistryError(
            f"{where}: the version served before, {wanted}, is not in this registry; promote one instead."
        )

    def _append(
        self, record: ModelRecord, found: Reference, stage: str, by: str, kind: str, replaced: str
    ) -> Promotion:
        number = record.promotions[-1].number + 1 if record.promotions else 1
        at = self._now().isoformat(timespec="seconds")
        promotion = Promotion(number, stage, found.version, found.digest, at, by, kind, replaced)
        self._backend.append(found.model, promotion, timeout=self._timeout)
        return promotion

    def _read(self, model: str) -> ModelRecord:
        return self._backend.read(model, timeout=self._timeout)

    def _download(self, found: Reference, folder: Path) -> None:
        self._backend.download(found, folder, timeout=self._transfer_timeout)

    def _resolve(self, reference: Reference, record: ModelRecord) -> Reference:
        known = {version.reference.version: version.reference for version in record.versions}
        where = f"the {self._scheme} registry"
        if not known:
            raise UnresolvedReference(f"model {reference.model}: {where} has no version of it; run `make train`.")
        wanted = reference.version
        if reference.stage:
            has = promotion_stack(record.promotions, _known(reference.stage))
            if not has:
                raise UnresolvedReference(
                    f"{reference}: no version has this stage in {where}; name a version, it has {', '.join(known)}."
                )
            wanted = has[-1].version
        found = known.get(wanted)
        if found is None:
            raise UnresolvedReference(f"{reference}: {where} has no such version; it has {', '.join(known)}.")
        if reference.digest and reference.digest != found.digest:
            raise UnresolvedReference(
                f"{reference}: version {found.version} in {where} has the digest {found.digest}; "
                f"to serve that one write {found}."
            )
        return found


def copy(source: ModelRegistry, reference: Reference, target: ModelRegistry, artifacts: Path) -> Reference:
    """Copy a version to another registry under the same digest; `artifacts` caches the download."""
    found = source.resolve(reference)
    folder = source.fetch(found, artifacts)
    return target.register(found.model, folder, found.digest, origin=str(found))


def promotion_stack(promotions: Sequence[Promotion], stage: str) -> list[Promotion]:
    """Return the promotions that lead to the present holder of a stage; a rollback drops the later ones."""
    stack: list[Promotion] = []
    for promotion in promotions:
        if promotion.stage != stage:
            continue
        if promotion.kind == "rollback":
            stack = stack[:-1]
            while stack and stack[-1].digest != promotion.digest:
                stack.pop()
            if stack:
                continue
        stack.append(promotion)
    return stack


def _replaced(record: ModelRecord, found: Reference, stage: str) -> str:
    """Return the digest that a version replaced when it last got a stage."""
    got = [entry.replaced for entry in record.promotions if (entry.stage, entry.digest) == (stage, found.digest)]
    return got[-1] if got else ""


def _known(stage: str) -> str:
    if stage not in STAGES:
        raise UnresolvedReference(f"stage {stage!r} is not one of {', '.join(STAGES)}; use one, or name a version.")
    return stage
