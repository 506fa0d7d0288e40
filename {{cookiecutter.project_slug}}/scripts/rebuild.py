"""Make the pinned version anew where no registry of this machine has it, as in a clone: `make rebuild`.

Trains from this checkout and registers the result under the number in model.lock, if its digest is the one in
model.lock. If not, says what differs from when it was pinned, and changes nothing. No file that git knows changes in
either case.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scripts import exported, project
from scripts import train as training
from scripts.lineage import differences
from scripts.model_version import who
from scripts.pinning import pinned_lineage
from scripts.registries import explain_missing, open_registry
from serving.adapters.local_registry import SCHEME as LOCAL
from serving.errors import RegistryError, StartError
from serving.lineage import Lineage
from serving.references import Reference, read_lock
from serving.registry import CHAMPION, NONE, ModelRegistry


def main(arguments: Sequence[str] | None = None) -> int:
    """Rebuild the pinned version, or say why that can't be done."""
    argparse.ArgumentParser(prog="python -m scripts.rebuild", description=__doc__).parse_args(arguments)
    pinned = read_lock(project.LOCK)
    if pinned.scheme != LOCAL:
        raise StartError(f"{pinned}: is not rebuilt but fetched from {pinned.scheme}; `make run` does it.")
    registry = open_registry(LOCAL, project.REGISTRY)
    if is_there(pinned, registry):
        print(f"nothing to rebuild: the registry has {pinned}")
        return 0
    rebuild(pinned, registry)
    print(f"rebuilt {pinned}")
    return 0


def is_there(pinned: Reference, registry: ModelRegistry) -> bool:
    """Tell whether the registry has the version.

    :raises StartError: its number belongs to another artifact, or to half of one
    """
    if pinned.version in {version.reference.version for version in registry.versions(pinned.model)}:
        explain_missing(pinned, registry)
        return True
    folder = project.REGISTRY / pinned.model / pinned.version
    if folder.exists():
        raise RegistryError(f"{folder}: holds half of a version; remove the folder, then `make rebuild`.")
    return False


def rebuild(pinned: Reference, registry: ModelRegistry) -> None:
    """Train and register the pinned version, with its first lineage.

    :raises StartError: this checkout gives another artifact
    """
    export = training.export(*training.fit())
    first = pinned_lineage(pinned)
    with tempfile.TemporaryDirectory() as staging:
        folder = Path(staging, "artifact")
        digest = exported.write(replace(export, lineage=first or export.lineage), folder)
        if digest != pinned.digest:
            raise StartError(_refusal(pinned, digest, first, export.lineage))
        registry.register(pinned.model, folder, digest)
    if registry.holder(pinned.model, CHAMPION) == NONE:
        registry.promote(pinned, CHAMPION, expect=NONE, by=who())


def _refusal(pinned: Reference, digest: str, first: Lineage | None, here: Lineage) -> str:
    if first is None:
        why = "model.lineage.json does not say how that was made"
    else:
        why = "; ".join(differences(first, here)) or "training gives another model each time, from the same lineage"
    return (
        f"{pinned}: can't be rebuilt, this checkout gives {digest}: {why}. Nothing was changed; "
        "copy the version from a machine that has it, or pin a new one with `make train`."
    )


if __name__ == "__main__":
    project.run(main)
