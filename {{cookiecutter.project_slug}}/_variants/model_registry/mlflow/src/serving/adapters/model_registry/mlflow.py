"""The MLflow model registry, over HTTP.

A version is an MLflow model version whose run has the artifact's files below `model/`. Its tags hold what MLflow does
not keep: digest and origin. Each promotion is a tag of the registered model; the aliases champion and challenger mirror
them and are never read.

MLflow overwrites tags silently. So writers agree on the promotion of each number by ballots, in tags of their own.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from serving.adapters.model_registry import ballots
from serving.adapters.model_registry.ballots import UnreadableAttempt
from serving.adapters.model_registry.mlflow_calls import call
from serving.adapters.model_registry.mlflow_tags import PROMOTION, TagPosition, model_tags
from serving.adapters.model_registry.records import parse_promotion
from serving.domain.artifacts import FILES, files_of, open_artifact
from serving.domain.errors import RegistryError, StalePromotion
from serving.domain.lineage import Lineage
from serving.domain.ports import ModelRecord, Promotion, RegisteredVersion
from serving.domain.references import Reference, is_digest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

SCHEME = "mlflow"
_FOLDER = "model"
_PAGE = 100
_MAX_PARAMETERS = 100


class MlflowRegistry:
    """Keep model versions on the MLflow server in MLFLOW_TRACKING_URI."""

    def read(self, model: str, *, timeout: float) -> ModelRecord:
        """Return all complete versions and promotions; skip versions without our tags."""
        return call(lambda client: _read(client, model), timeout)

    def add(self, model: str, artifact: Path, digest: str, origin: str, *, timeout: float) -> RegisteredVersion:
        """Store an artifact in a new run, then register that as the next version."""
        lineage = open_artifact(artifact, digest).lineage
        registered_at = datetime.now(UTC).isoformat(timespec="seconds")
        tags = {
            "digest": digest,
            "registered_at": registered_at,
            "origin": origin,
            "git_commit": lineage.git_commit,
            "data_digest": lineage.data_digest,
        }
        version = call(lambda client: _add(client, model, artifact, lineage, tags), timeout)
        return RegisteredVersion(Reference(SCHEME, model, version, digest), registered_at, origin)

    def download(self, version: Reference, folder: Path, *, timeout: float) -> None:
        """Download a version's files to an empty folder."""
        # A timed-out download may go on for a while, so it never writes to the caller's folder.
        with tempfile.TemporaryDirectory(prefix="mlflow-", ignore_cleanup_errors=True) as arrived:
            for path in call(lambda client: _download(client, version, arrived), timeout):
                shutil.move(path, folder)

    def append(self, model: str, promotion: Promotion, *, timeout: float) -> None:
        """Record a promotion, then move the alias of its stage."""
        call(lambda client: _append(client, model, promotion), timeout)


def _read(client: MlflowClient, model: str) -> ModelRecord:
    tags = model_tags(client, model)
    if tags is None:
        return ModelRecord()
    found: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name='{model}'", max_results=_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            break
    ours = sorted((version for version in found if "digest" in version.tags), key=lambda version: int(version.version))
    keys = [key for key in sorted(tags) if key.startswith(PROMOTION)]
    promotions = (parse_promotion(tags[key], f"{SCHEME}:{model}: its tag {key}") for key in keys)
    return ModelRecord(tuple(_registered(model, version) for version in ours), tuple(promotions))


def _registered(model: str, version: ModelVersion) -> RegisteredVersion:
    tags, number = version.tags, str(version.version)
    if not is_digest(tags["digest"]):
        raise RegistryError(
            f"{SCHEME}:{model}/{number}: its tag digest is not sha256=<64 hex digits>; restore the tag or remove it."
        )
    reference = Reference(SCHEME, model, number, tags["digest"])
    return RegisteredVersion(reference, tags.get("registered_at", ""), tags.get("origin", ""))


def _add(client: MlflowClient, model: str, artifact: Path, lineage: Lineage, tags: Mapping[str, str]) -> str:
    from mlflow.entities import Metric, Param

    run_id = client.create_run(_experiment(client, model), run_name=tags["digest"]).info.run_id
    now = int(time.time() * 1000)
    metrics = [Metric(_key(name), value, now, 0) for name, value in lineage.metrics.items()]
    parameters = [Param(_key(name), str(value)) for name, value in lineage.parameters.items()]
    client.log_batch(run_id, metrics=metrics, params=parameters[:_MAX_PARAMETERS])
    for path in files_of(artifact):
        client.log_artifact(run_id, str(path), _FOLDER)
    client.set_terminated(run_id)
    _unless_there(lambda: client.create_registered_model(model))
    source = f"{client.get_run(run_id).info.artifact_uri}/{_FOLDER}"
    version = client.create_model_version(model, source, run_id, dict(tags), await_creation_for=0)
    return str(version.version)


def _experiment(client: MlflowClient, model: str) -> str:
    _unless_there(lambda: client.create_experiment(model))
    experiment = client.get_experiment_by_name(model)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise RegistryError(f"{SCHEME}:{model}: the experiment {model} was deleted; restore it in MLflow.")
    return str(experiment.experiment_id)


def _unless_there(create: Callable[[], object]) -> None:
    from mlflow import MlflowException

    try:
        create()
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _download(client: MlflowClient, version: Reference, folder: str) -> list[str]:
    run_id = str(client.get_model_version(version.model, version.version).run_id)
    there = sorted(entry.path for entry in client.list_artifacts(run_id, _FOLDER))
    wanted = [path for path in there if FILES.fullmatch(path.rpartition("/")[2])]
    return [client.download_artifacts(run_id, path, folder) for path in wanted]


def _append(client: MlflowClient, model: str, promotion: Promotion) -> None:
    position = TagPosition(client, model, promotion.number)
    try:
        recorded = ballots.settle(position, json.dumps(asdict(promotion)), secrets.token_hex(8))
    except UnreadableAttempt as error:
        key = position.key(str(error))
        raise RegistryError(f"{SCHEME}:{model}: its tag {key} can't be read; delete the tag in MLflow.") from None
    if not recorded:
        raise StalePromotion(
            f"{SCHEME}:{model}@{promotion.stage}: another promotion came first; check it, then promote again."
        )
    client.set_registered_model_alias(model, promotion.stage, promotion.version)


def _key(name: str) -> str:
    """Replace the characters that MLflow refuses in a name."""
    return re.sub(r"[^\w.\- /]", "_", name)
