"""Lineage: how a version was made. It is stored beside the artifact and not covered by its digest.

It explains a version and decides nothing: where it is missing or can't be read, the lineage is unknown and the model is
served all the same. So equal models have equal digests, whoever trained them, when and at which commit.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from serving.domain.distributions import Distributions
from serving.domain.errors import ArtifactError
from serving.domain.files import read_bounded, write_synced

LINEAGE = "version.json"
UNKNOWN = "unknown"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Lineage:
    """Describe how a version was made.

    `trained_at` is ISO 8601 in UTC. `libraries` has a version by package, that of Python among them; `machine` has the
    system and the CPU, since both can change the last digits of a number. `distributions` are those of the rows that
    it was trained on, or imported with.
    """

    description: str = ""
    git_commit: str = UNKNOWN
    trained_at: str = UNKNOWN
    data_digest: str = UNKNOWN
    parameters: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    distributions: Distributions = field(default_factory=Distributions)

    def outline(self) -> dict[str, Any]:
        """Return all but the distributions, hundreds of numbers that nobody reviews."""
        outline = asdict(self)
        del outline["distributions"]
        return outline


def read_lineage(folder: Path) -> Lineage:
    """Read the lineage beside an artifact; all unknown if the file is missing, too large or malformed."""
    try:
        return _adapter().validate_json(read_bounded(folder / LINEAGE, _MAX_BYTES))
    except (ArtifactError, ValidationError, ValueError):
        return Lineage()


def write_lineage(folder: Path, lineage: Lineage) -> None:
    """Write the lineage beside an artifact."""
    content = json.dumps(asdict(lineage), indent=1, sort_keys=True) + "\n"
    write_synced(folder / LINEAGE, content.encode())


@functools.cache
def _adapter() -> TypeAdapter[Lineage]:
    return TypeAdapter(Lineage)
