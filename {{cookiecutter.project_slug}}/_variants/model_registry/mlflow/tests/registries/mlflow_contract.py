"""The contract of a model registry, against the MLflow server that MLFLOW_TRACKING_URI names.

Not found by `make test`, since it needs that server: `python -m pytest tests/registries/mlflow_contract.py`.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient

from serving.adapters.mlflow_registry import MlflowRegistry
from serving.ports import ModelRecord, Promotion, RegisteredVersion
from serving.references import Reference
from serving.registry import ModelRegistry
from tests.contract.model_registry_contract import ModelRegistryContract, registered


class Apart:
    """Keep the models of one folder apart from all others on the server, by a prefix that only the server sees."""

    def __init__(self, folder: Path) -> None:
        self._backend = MlflowRegistry()
        self._prefix = f"t{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}-"

    def there(self, model: str) -> str:
        return self._prefix + model

    def read(self, model: str, *, timeout: float) -> ModelRecord:
        record = self._backend.read(self.there(model), timeout=timeout)
        return replace(record, versions=tuple(self._here(version) for version in record.versions))

    def add(self, model: str, artifact: Path, digest: str, origin: str, *, timeout: float) -> RegisteredVersion:
        return self._here(self._backend.add(self.there(model), artifact, digest, origin, timeout=timeout))

    def download(self, version: Reference, folder: Path, *, timeout: float) -> None:
        self._backend.download(replace(version, model=self.there(version.model)), folder, timeout=timeout)

    def append(self, model: str, promotion: Promotion, *, timeout: float) -> None:
        self._backend.append(self.there(model), promotion, timeout=timeout)

    def _here(self, version: RegisteredVersion) -> RegisteredVersion:
        reference = version.reference
        return replace(version, reference=replace(reference, model=reference.model.removeprefix(self._prefix)))


class TestMlflowRegistry(ModelRegistryContract):
    def open(self, folder: Path) -> ModelRegistry:
        return ModelRegistry("mlflow", self.backend(folder), timeout=60)

    def backend(self, folder: Path) -> Apart:
        return Apart(folder)

    def damage(self, folder: Path, reference: Reference) -> None:
        client = MlflowClient()
        run_id = client.get_model_version(Apart(folder).there(reference.model), reference.version).run_id
        assert run_id is not None
        with tempfile.TemporaryDirectory() as place:
            kept = Path(client.download_artifacts(run_id, "model/model.onnx", place))
            kept.write_bytes(b"!" + kept.read_bytes()[1:])
            client.log_artifact(run_id, str(kept), "model")

    def test_the_aliases_follow_the_history(self, folder: Path) -> None:
        registry = self.open(folder)
        first, second = (registered(registry, folder, number) for number in (1, 2))
        model = Apart(folder).there("tiny")
        registry.promote(first, "champion", expect="none", by="ann")
        registry.promote(second, "champion", expect="1", by="ann")
        assert str(MlflowClient().get_model_version_by_alias(model, "champion").version) == "2"
        registry.rollback("tiny", "champion", by="ann")
        assert str(MlflowClient().get_model_version_by_alias(model, "champion").version) == "1"

    def test_a_version_that_somebody_else_made_is_passed_over(self, folder: Path) -> None:
        registry, client, model = self.open(folder), MlflowClient(), Apart(folder).there("tiny")
        registered(registry, folder)
        known = client.get_model_version(model, "1")
        assert known.source is not None
        client.create_model_version(model, known.source, known.run_id)
        assert [version.reference.version for version in registry.versions("tiny")] == ["1"]
