"""The model registries that this repo can open, by the scheme of a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from serving.adapters.local_registry import SCHEME as LOCAL
from serving.adapters.local_registry import LocalRegistry
from serving.errors import UnresolvedReference
from serving.ports import ModelRegistry

SCHEMES: Mapping[str, Callable[[Path], ModelRegistry]] = {LOCAL: LocalRegistry}
DEFAULT_SCHEME = LOCAL


def open_registry(scheme: str, root: Path) -> ModelRegistry:
    """Open the registry that a reference's scheme names; `root` is the local registry's folder."""
    if scheme not in SCHEMES:
        raise UnresolvedReference(f"model registry {scheme!r} is not part of this repo; it has {', '.join(SCHEMES)}.")
    return SCHEMES[scheme](root)
