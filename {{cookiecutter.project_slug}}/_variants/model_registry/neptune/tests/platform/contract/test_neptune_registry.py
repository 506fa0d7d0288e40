"""The contract of a model registry, with the Neptune adapter and a fake of Neptune's client."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from serving.adapters.model_registry.neptune import NeptuneRegistry
from serving.adapters.model_registry.neptune_access import Access
from serving.domain.errors import RegistryError, RegistryUnavailable
from serving.domain.ports import Promotion
from serving.domain.references import Reference
from serving.offline.registry import ModelRegistry
from tests.platform.contract.model_registry_contract import registered
from tests.platform.contract.remote_registry_contract import RemoteRegistryContract
from tests.platform.support.fake_neptune import FakeNeptune
from tests.platform.support.neptune import asking

ACCESS = Access("https://neptune.example.com", "team/serving", "a-token")


class TestNeptuneRegistry(RemoteRegistryContract):
    @pytest.fixture(autouse=True)
    def client(self) -> FakeNeptune:
        self.fake = FakeNeptune()
        return self.fake

    def open(self, folder: Path) -> ModelRegistry:
        return ModelRegistry("neptune", self.backend(folder))

    def backend(self, folder: Path) -> NeptuneRegistry:
        return NeptuneRegistry(asking(self.fake, ACCESS))

    def damage(self, folder: Path, reference: Reference) -> None:
        fields = self.version(reference.version)
        fields["artifact/model"] = b"!" + fields["artifact/model"][1:]

    def version(self, number: str) -> dict[str, object]:
        return self.fake.things[f"SRV-TINY-{number}"].fields

    def test_the_stages_follow_the_history(self, folder: Path) -> None:
        registry = self.open(folder)
        first, second = (registered(registry, folder, number) for number in (1, 2))
        registry.promote(first, "champion", expect="none", by="ann")
        registry.promote(second, "champion", expect="1", by="ann")
        assert [self.version(number)["sys/stage"] for number in "12"] == ["archived", "production"]
        registry.rollback("tiny", "champion", by="ann")
        assert [self.version(number)["sys/stage"] for number in "12"] == ["production", "archived"]

    def test_a_history_written_before_there_were_attempts_is_read_and_continued(self, folder: Path) -> None:
        registry = self.open(folder)
        first, second = (registered(registry, folder, number) for number in (1, 2))
        kept = Promotion(1, "champion", "1", first.digest, "2026-01-01T00:00:00+00:00", "ann")
        model = self.fake.things["SRV-TINY"].fields
        model["promotions/000001"] = json.dumps(asdict(kept))
        assert registry.promote(second, "champion", expect="1", by="bob").number == 2
        assert [entry.by for entry in registry.record("tiny").promotions] == ["ann", "bob"]
        assert sorted(path for path in model if "sys/" not in path) == ["promotions/000001", "promotions/000002"]

    def test_an_attempt_that_can_not_be_read_is_named(self, folder: Path) -> None:
        registry = self.open(folder)
        reference = registered(registry, folder)
        self.fake.things["SRV-TINY"].fields["attempts/000001/ab"] = "?"
        with pytest.raises(RegistryError, match="the field attempts/000001/ab of tiny can't be read; delete it"):
            registry.promote(reference, "champion", expect="none", by="ann")

    def test_a_version_shows_its_lineage_on_its_page(self, folder: Path) -> None:
        registered(self.open(folder), folder)
        assert {path.partition("/")[0] for path in self.version("1")} >= {"artifact", "lineage", "serving", "sys"}
        assert self.version("1")["sys/name"] == "tiny"

    def test_an_unfinished_version_is_ignored(self, folder: Path) -> None:
        registry = self.open(folder)
        registered(registry, folder, 1)
        registered(registry, folder, 2)
        del self.version("1")["serving/digest"]
        assert [known.reference.version for known in registry.versions("tiny")] == ["2"]

    def test_a_key_of_another_model_is_refused(self, folder: Path) -> None:
        registered(self.open(folder), folder)
        self.fake.things["SRV-TINY"].fields["sys/name"] = "somebody's"
        with pytest.raises(RegistryError, match="the model TINY is called .*; set NEPTUNE_MODEL_KEY"):
            self.open(folder).versions("tiny")

    def test_a_server_that_alters_fields_is_detected(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "tests.platform.support.fake_neptune.Value.upload",
            lambda value, file, wait: value.opened.fields.__setitem__(value.path, b"?"),
        )
        with pytest.raises(RegistryError, match="returns a different artifact/golden than it was given"):
            registered(self.open(folder), folder)
        monkeypatch.undo()
        assert list(self.open(folder).versions("tiny")) == []

    def test_only_the_class_of_a_client_exception_is_reported(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise AttributeError("a-token")

        monkeypatch.setattr(FakeNeptune, "init_project", broken)
        with pytest.raises(
            RegistryUnavailable, match=r"^Neptune at neptune.example.com: .*\(AttributeError\)"
        ) as refusal:
            self.open(folder).versions("tiny")
        assert "a-token" not in str(refusal.value)
