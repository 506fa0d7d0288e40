"""The contract of a model registry, against the MLflow server that MLFLOW_TRACKING_URI names.

Not found by `make test`, since it needs that server: `python -m pytest tests/platform/registries/mlflow_contract.py`.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
from mlflow import MlflowClient

from serving.adapters.model_registry.mlflow import MlflowRegistry
from serving.domain.errors import RegistryError
from serving.domain.ports import Promotion
from serving.domain.references import Reference
from serving.offline.registry import ModelRegistry
from tests.platform.contract.model_registry_contract import registered
from tests.platform.contract.remote_registry_contract import RemoteRegistryContract
from tests.platform.support.isolated import Isolated


class TestMlflowRegistry(RemoteRegistryContract):
    def open(self, folder: Path) -> ModelRegistry:
        return ModelRegistry("mlflow", self.backend(folder), timeout=60)

    def backend(self, folder: Path) -> Isolated:
        return Isolated(MlflowRegistry(), folder)

    def damage(self, folder: Path, reference: Reference) -> None:
        client = MlflowClient()
        run_id = client.get_model_version(self.backend(folder).there(reference.model), reference.version).run_id
        assert run_id is not None
        with tempfile.TemporaryDirectory() as place:
            kept = Path(client.download_artifacts(run_id, "model/model.onnx", place))
            kept.write_bytes(b"!" + kept.read_bytes()[1:])
            client.log_artifact(run_id, str(kept), "model")

    def test_the_aliases_follow_the_history(self, folder: Path) -> None:
        registry = self.open(folder)
        first, second = (registered(registry, folder, number) for number in (1, 2))
        model = self.backend(folder).there("tiny")
        registry.promote(first, "champion", expect="none", by="ann")
        registry.promote(second, "champion", expect="1", by="ann")
        assert str(MlflowClient().get_model_version_by_alias(model, "champion").version) == "2"
        registry.rollback("tiny", "champion", by="ann")
        assert str(MlflowClient().get_model_version_by_alias(model, "champion").version) == "1"

    def test_a_history_written_before_there_were_attempts_is_read_and_continued(self, folder: Path) -> None:
        registry, model = self.open(folder), self.backend(folder).there("tiny")
        first, second = (registered(registry, folder, number) for number in (1, 2))
        kept = Promotion(1, "champion", "1", first.digest, "2026-01-01T00:00:00+00:00", "ann")
        MlflowClient().set_registered_model_tag(model, "promotion.000001", json.dumps(asdict(kept)))
        assert registry.promote(second, "champion", expect="1", by="bob").number == 2
        assert [entry.by for entry in registry.record("tiny").promotions] == ["ann", "bob"]
        tags = MlflowClient().get_registered_model(model).tags
        assert sorted(tags) == ["promotion.000001", "promotion.000002"]

    def test_an_attempt_that_can_not_be_read_is_named(self, folder: Path) -> None:
        registry, model = self.open(folder), self.backend(folder).there("tiny")
        reference = registered(registry, folder)
        MlflowClient().set_registered_model_tag(model, "attempt.000001.ab", "?")
        with pytest.raises(RegistryError, match=r"its tag attempt\.000001\.ab can't be read; delete the tag"):
            registry.promote(reference, "champion", expect="none", by="ann")

    def test_a_version_that_this_repo_did_not_create_is_ignored(self, folder: Path) -> None:
        registry, client, model = self.open(folder), MlflowClient(), self.backend(folder).there("tiny")
        registered(registry, folder)
        known = client.get_model_version(model, "1")
        assert known.source is not None
        client.create_model_version(model, known.source, known.run_id)
        assert [version.reference.version for version in registry.versions("tiny")] == ["1"]
