"""The model registry of a self-hosted Neptune 2.x, through its client 1.14.

A version is a Neptune model version whose fields hold the artifact's files, digest and origin. Promotions are fields of
the Neptune model; the stages production and staging mirror them and are never read. The layout is described in
`neptune_process.py`, the only module that uses the client.

Neptune overwrites fields silently. So writers agree on the promotion of each number by ballots, in fields of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.adapters.model_registry.neptune_access import model_key
from serving.adapters.model_registry.neptune_calls import call
from serving.adapters.model_registry.neptune_process import DIGEST
from serving.adapters.model_registry.records import parse_promotion
from serving.domain.artifacts import GOLDEN, MANIFEST, declared_model, files_of, open_artifact
from serving.domain.errors import RegistryError
from serving.domain.lineage import LINEAGE, Lineage
from serving.domain.ports import ModelRecord, Promotion, RegisteredVersion
from serving.domain.references import Reference, is_digest

SCHEME = "neptune"
STAGES = {"champion": "production", "challenger": "staging"}
FILES = {f"artifact/{Path(name).stem}": name for name in ("model", GOLDEN, MANIFEST, LINEAGE)}
"""The field of each file of an artifact; the lineage may be missing, and the manifest names the model's file."""

Call = Callable[[str, Mapping[str, Any], float], Any]


class NeptuneRegistry:
    """Keep model versions in the project NEPTUNE_PROJECT, on the server in the token."""

    def __init__(self, ask: Call = call) -> None:
        self._ask = ask

    def read(self, model: str, *, timeout: float) -> ModelRecord:
        """Return all complete versions and promotions; skip versions without our digest."""
        known = self._ask("read", {"model": model, "key": model_key(model)}, timeout)
        rows = sorted(known["versions"], key=lambda row: int(_number(row["sys/id"])))
        kept = known["promotions"]
        where = f"{SCHEME}:{model}: its field promotions/"
        promotions = (parse_promotion(kept[key], f"{where}{key}") for key in sorted(kept))
        return ModelRecord(tuple(_registered(model, row) for row in rows), tuple(promotions))

    def add(self, model: str, artifact: Path, digest: str, origin: str, *, timeout: float) -> RegisteredVersion:
        """Store an artifact in a new version, read it back, and then set the version's digest."""
        lineage = open_artifact(artifact, digest).lineage
        registered_at = datetime.now(UTC).isoformat(timespec="seconds")
        arguments = {
            "model": model,
            "key": model_key(model),
            "files": {f"artifact/{file.stem}": str(file.resolve()) for file in files_of(artifact)},
            "fields": {"serving/registered_at": registered_at, "serving/origin": origin, **_fields(lineage)},
            "digest": digest,
        }
        number = _number(self._ask("add", arguments, timeout))
        return RegisteredVersion(Reference(SCHEME, model, number, digest), registered_at, origin)

    def download(self, version: Reference, folder: Path, *, timeout: float) -> None:
        """Download a version's files to an empty folder."""
        files = {path: str((folder / name).resolve()) for path, name in FILES.items()}
        arguments = {"key": model_key(version.model), "number": version.version, "files": files}
        self._ask("download", arguments, timeout)
        name_model(folder)

    def append(self, model: str, promotion: Promotion, *, timeout: float) -> None:
        """Record a promotion, then move the version to Neptune's stage."""
        arguments = {
            "model": model,
            "key": model_key(model),
            "position": promotion.number,
            "content": json.dumps(asdict(promotion)),
            "number": promotion.version,
            "stage": STAGES[promotion.stage],
        }
        self._ask("append", arguments, timeout)


def name_model(folder: Path) -> None:
    """Give the model's file, which arrives without a suffix, the name that the manifest declares."""
    if (folder / "model").exists():
        (folder / "model").rename(folder / declared_model(folder))


def _fields(lineage: Lineage) -> dict[str, Any]:
    """Return the fields for Neptune's own pages; version.json has the complete lineage."""
    return {
        "lineage/git_commit": lineage.git_commit,
        "lineage/data_digest": lineage.data_digest,
        **{f"lineage/libraries/{_field(name)}": version for name, version in lineage.libraries.items()},
        **{f"parameters/{_field(name)}": value for name, value in lineage.parameters.items()},
        **{f"metrics/{_field(name)}": float(value) for name, value in lineage.metrics.items()},
    }


def _field(name: str) -> str:
    """Return a name as one part of a path."""
    return name.replace("/", "_")


def _number(version_id: str) -> str:
    """Return the number of a version id: 3 of SRV-KEY-3."""
    return version_id.rpartition("-")[2]


def _registered(model: str, row: Mapping[str, str]) -> RegisteredVersion:
    number, digest = _number(row["sys/id"]), row[DIGEST]
    if not is_digest(digest):
        raise RegistryError(
            f"{SCHEME}:{model}/{number}: its field {DIGEST} is not sha256=<64 hex digits>; restore or delete it."
        )
    reference = Reference(SCHEME, model, number, digest)
    return RegisteredVersion(reference, row.get("serving/registered_at", ""), row.get("serving/origin", ""))
