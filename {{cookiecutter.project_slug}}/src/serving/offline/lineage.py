"""Collect the lineage of a new model, and compare two lineages."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from serving.domain.lineage import UNKNOWN, Lineage
from serving.offline import project
from serving.offline.git_info import commit

_CPUINFO = Path("/proc/cpuinfo")
_SHOWN = 19  # `sha256=` and twelve digits


def lineage_here(
    description: str,
    data_digest: str,
    parameters: Mapping[str, float | int | str | bool],
    metrics: Mapping[str, float],
    libraries: Mapping[str, str],
) -> Lineage:
    """Return the lineage of a model that is trained now, on this machine, from this checkout."""
    return Lineage(
        description=description,
        git_commit=commit(project.ROOT),
        trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
        data_digest=data_digest,
        parameters=parameters,
        metrics=metrics,
        libraries={"python": platform.python_version(), **libraries},
        machine={"system": f"{platform.system()} {platform.machine()}", "CPU": _cpu()},
    )


def differences(pinned: Lineage, here: Lineage) -> list[str]:
    """List the differences of two lineages that can change a model."""
    found = []
    if pinned.data_digest != here.data_digest:
        found.append(f"the training data differs ({pinned.data_digest[:_SHOWN]}, here {here.data_digest[:_SHOWN]})")
    for kind, then, now in (
        ("parameter ", pinned.parameters, here.parameters),
        ("", pinned.libraries, here.libraries),
        ("the ", pinned.machine, here.machine),
    ):
        for name in sorted(then.keys() | now.keys()):
            was, is_now = then.get(name, UNKNOWN), now.get(name, UNKNOWN)
            if was != is_now:
                found.append(f"{kind}{name} was {was}, here {is_now}")
    if pinned.git_commit != here.git_commit:
        found.append(f"the commit was {pinned.git_commit}, here {here.git_commit}")
    return found


def _cpu() -> str:
    """Return the CPU's name, or its architecture if the name is unknown."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
