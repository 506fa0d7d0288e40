"""The committed record of the served version: reference in model.lock, lineage in model.lineage.json."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from serving.domain.artifacts import open_artifact
from serving.domain.lineage import Lineage
from serving.domain.references import Reference, find_lock, write_lock
from serving.offline import project
from serving.offline.registry import NONE, ModelRegistry

_LINEAGE = "model.lineage.json"


@dataclass(frozen=True)
class _Pinned:
    """Hold a lineage and the digest of its artifact."""

    digest: str
    lineage: Lineage


def pin(registry: ModelRegistry, reference: Reference, artifacts: Path) -> bool:
    """Pin the version to serve and its lineage; return whether model.lock has changed.

    Unchanged files are not rewritten, so training the same model again leaves the work tree clean.
    """
    lineage = open_artifact(registry.fetch(reference, artifacts), reference.digest).lineage
    if pinned_lineage(reference) is None:
        content = (
            json.dumps({"digest": reference.digest, "lineage": lineage.outline()}, indent=1, sort_keys=True) + "\n"
        )
        staged = _file().with_name(f".{_LINEAGE}.new")
        staged.write_text(content, encoding="utf-8")
        staged.replace(_file())
    if find_lock(project.LOCK) == reference:
        return False
    write_lock(project.LOCK, reference)
    print(f"wrote {project.LOCK.name}: {reference}")
    return True


def pinned_lineage(reference: Reference) -> Lineage | None:
    """Return the committed lineage of a version; None if the committed one is of another version."""
    try:
        pinned = _adapter().validate_json(_file().read_bytes())
    except (OSError, ValidationError, ValueError):
        return None
    return pinned.lineage if pinned.digest == reference.digest else None


def served_version(reference: Reference) -> str:
    """Return the pinned version of this model, or `none`."""
    served = find_lock(project.LOCK)
    if served is None:
        return NONE
    same = (served.scheme, served.model) == (reference.scheme, reference.model)
    return served.version if same else NONE


def served_digest() -> str:
    """Return the pinned digest; empty if nothing is pinned yet."""
    served = find_lock(project.LOCK)
    return served.digest if served else ""


def _file() -> Path:
    return project.LOCK.with_name(_LINEAGE)


@functools.cache
def _adapter() -> TypeAdapter[_Pinned]:
    return TypeAdapter(_Pinned)
