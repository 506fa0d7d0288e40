"""The composition root of the offline commands: opens a model registry."""

from __future__ import annotations

import os
from pathlib import Path

from serving.adapters.model_registry import SCHEMES
from serving.adapters.model_registry.local import SCHEME as LOCAL
from serving.adapters.model_registry.local import LocalRegistry
from serving.domain.errors import UnresolvedReference
from serving.domain.references import Reference, find_lock
from serving.offline import project
from serving.offline.progress import Watched
from serving.offline.registry import TIMEOUT_S, TRANSFER_TIMEOUT_S, ModelRegistry


def open_registry(
    scheme: str, root: Path, *, timeout: float = TIMEOUT_S, transfer_timeout: float = TRANSFER_TIMEOUT_S
) -> ModelRegistry:
    """Open the registry that a reference's scheme names; `root` is the local registry's folder."""
    if scheme not in SCHEMES:
        raise UnresolvedReference(f"model registry {scheme!r} is not part of this repo; it has {', '.join(SCHEMES)}.")
    backend = SCHEMES[scheme](root)
    if scheme == LOCAL and root == project.REGISTRY:  # the one that model.lock speaks of
        backend = LocalRegistry(root, project.LOCK)
    return ModelRegistry(scheme, Watched(backend), timeout=timeout, transfer_timeout=transfer_timeout)


def fetch(reference: Reference, registry: ModelRegistry, artifacts: Path) -> Path:
    """Fetch a pinned version into a digest-addressed folder; return its path.

    :raises UnresolvedReference: the registry does not have it; what model.lock pins can perhaps be rebuilt
    """
    try:
        return registry.fetch(reference, artifacts)
    except UnresolvedReference:
        explain_missing(reference, registry)
        raise


def explain_missing(reference: Reference, registry: ModelRegistry) -> None:
    """Explain the way out if model.lock pins this version and the local registry does not have it.

    :raises UnresolvedReference: it is missing, or its number belongs to another artifact
    """
    if reference.scheme != LOCAL or reference != find_lock(project.LOCK):
        return
    known = {version.reference.version: version.reference.digest for version in registry.versions(reference.model)}
    there = known.get(reference.version)
    if there is None:
        raise UnresolvedReference(
            f"{reference}: is pinned in {project.LOCK.name}, but not in the registry of this machine; "
            "`make rebuild` trains it from this checkout."
        )
    if there != reference.digest:
        raise UnresolvedReference(
            f"{reference}: the registry of this machine has another artifact under this number ({there}); "
            "`make train` registers this checkout's model under the next number and pins it."
        )


def default_scheme() -> str:
    """Return the registry for new versions: MODEL_REGISTRY, or the local one."""
    return os.environ.get("MODEL_REGISTRY") or LOCAL
