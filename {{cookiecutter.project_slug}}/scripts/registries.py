"""Open a model registry: the composition root of all that registers, promotes and fetches."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.watching import Watched
from serving.adapters.local_registry import SCHEME as LOCAL
from serving.adapters.model_registry import SCHEMES
from serving.errors import UnresolvedReference
from serving.references import Reference
from serving.registry import TIMEOUT_S, TRANSFER_TIMEOUT_S, ModelRegistry


def open_registry(
    scheme: str, root: Path, *, timeout: float = TIMEOUT_S, transfer_timeout: float = TRANSFER_TIMEOUT_S
) -> ModelRegistry:
    """Open the registry that a reference's scheme names; `root` is the local registry's folder."""
    if scheme not in SCHEMES:
        raise UnresolvedReference(f"model registry {scheme!r} is not part of this repo; it has {', '.join(SCHEMES)}.")
    backend = Watched(SCHEMES[scheme](root))
    return ModelRegistry(scheme, backend, timeout=timeout, transfer_timeout=transfer_timeout)


def fetch(reference: Reference, registry: Path, artifacts: Path) -> Path:
    """Bring a pinned version below a digest-addressed folder; return where it lies."""
    return open_registry(reference.scheme, registry).fetch(reference, artifacts)


def default_scheme() -> str:
    """Return where new versions go: MODEL_REGISTRY, or the registry that needs no server."""
    return os.environ.get("MODEL_REGISTRY") or LOCAL
