"""Rebuild the pinned version where no local registry has it, as in a clone: `make rebuild`.

Trains from this checkout. If the digest is the one in model.lock, the result is registered under the pinned number.
If not, the command lists what differs and changes nothing. Tracked files never change.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serving.adapters.model_registry.local import SCHEME as LOCAL
from serving.domain.errors import OperatorError, RegistryError
from serving.domain.lineage import Lineage
from serving.domain.references import Reference, read_lock
from serving.offline import project
from serving.offline import train as training
from serving.offline.bootstrap import explain_missing, open_registry
from serving.offline.export import write_export
from serving.offline.lineage import differences
from serving.offline.model_version import current_user
from serving.offline.pinning import pinned_lineage
from serving.offline.registry import CHAMPION, NONE, ModelRegistry


def main(arguments: Sequence[str] | None = None) -> int:
    """Rebuild the pinned version, or explain why that can't be done."""
    argparse.ArgumentParser(prog="python -m serving.offline.rebuild", description=__doc__).parse_args(arguments)
    pinned = read_lock(project.LOCK)
    if pinned.scheme != LOCAL:
        raise OperatorError(
            f"{pinned}: is kept in {pinned.scheme}, so it is fetched, not rebuilt; `make run` fetches it."
        )
    registry = open_registry(LOCAL, project.REGISTRY)
    if is_there(pinned, registry):
        print(f"nothing to rebuild: the registry has {pinned}")
        return 0
    rebuild(pinned, registry)
    print(f"rebuilt {pinned}")
    return 0


def is_there(pinned: Reference, registry: ModelRegistry) -> bool:
    """Return whether the registry has the version.

    :raises OperatorError: its number belongs to another or an incomplete artifact
    """
    if pinned.version in {version.reference.version for version in registry.versions(pinned.model)}:
        explain_missing(pinned, registry)
        return True
    folder = project.REGISTRY / pinned.model / pinned.version
    if folder.exists():
        raise RegistryError(f"{folder}: holds an incomplete version; remove the folder, then run `make rebuild`.")
    return False


def rebuild(pinned: Reference, registry: ModelRegistry) -> None:
    """Train and register the pinned version, with its first lineage.

    :raises OperatorError: this checkout gives another artifact
    """
    export = training.export(training.fit())
    first = pinned_lineage(pinned)
    with tempfile.TemporaryDirectory() as staging:
        folder = Path(staging, "artifact")
        digest = write_export(replace(export, lineage=first or export.lineage), folder)
        if digest != pinned.digest:
            raise OperatorError(_refusal(pinned, digest, first, export.lineage))
        registry.register(pinned.model, folder, digest)
    if registry.holder(pinned.model, CHAMPION) == NONE:
        registry.promote(pinned, CHAMPION, expect=NONE, by=current_user())


def _refusal(pinned: Reference, digest: str, first: Lineage | None, here: Lineage) -> str:
    if first is None:
        why = "model.lineage.json does not describe this version"
    else:
        why = (
            "; ".join(differences(first, here))
            or "training is not deterministic: the same lineage gives another model each time"
        )
    return (
        f"{pinned}: can't be rebuilt; this checkout gives {digest}: {why}. Nothing was changed; "
        "copy the version from a machine that has it, or pin a new one with `make train`."
    )


if __name__ == "__main__":
    project.run(main)
