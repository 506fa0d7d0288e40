"""What every model registry does; a new one joins with a module of its own that subclasses this."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serving.artifacts import artifact_folder, open_artifact
from serving.errors import ArtifactError, StartError, UnresolvedReference
from serving.ports import ModelRegistry
from serving.references import Reference
from tests.support.artifacts import Model, tiny

WRITERS = 8
MISSING = f"sha256={'0' * 64}"


def variant(number: int, name: str = "tiny") -> Model:
    """Return models that differ in content, and so in digest."""
    model = tiny(name)
    return replace(model, manifest=replace(model.manifest, description=f"variant {number}"))


def registered(registry: ModelRegistry, folder: Path, number: int = 1, name: str = "tiny") -> Reference:
    """Write an artifact and register it."""
    source = folder / "sources" / f"{name}-{number}"
    return registry.register(name, source, variant(number, name).write(source))


class ModelRegistryContract(ABC):
    """Every test opens registries that share one place."""

    @abstractmethod
    def open(self, folder: Path) -> ModelRegistry:
        """Open the registry of this folder."""

    @abstractmethod
    def damage(self, folder: Path, reference: Reference) -> None:
        """Change the model file of a version where the registry keeps it."""

    def test_an_empty_registry_has_no_versions(self, folder: Path) -> None:
        assert list(self.open(folder).versions("tiny")) == []

    def test_versions_are_counted_from_one_and_listed_oldest_first(self, folder: Path) -> None:
        registry = self.open(folder)
        references = [registered(registry, folder, number) for number in range(1, 12)]
        assert [reference.version for reference in references] == [str(number) for number in range(1, 12)]
        listed = self.open(folder).versions("tiny")
        assert [known.reference for known in listed] == references
        assert all(reference.pinned for reference in references)

    def test_a_version_says_when_it_was_registered(self, folder: Path) -> None:
        before = datetime.now(UTC).replace(microsecond=0)
        registered(self.open(folder), folder)
        (known,) = self.open(folder).versions("tiny")
        assert before <= datetime.fromisoformat(known.registered_at) <= datetime.now(UTC)

    def test_each_model_has_numbers_of_its_own(self, folder: Path) -> None:
        registry = self.open(folder)
        first, other = registered(registry, folder), registered(registry, folder, name="other")
        assert (first.model, first.version, other.model, other.version) == ("tiny", "1", "other", "1")
        assert len(registry.versions("tiny")) == 1

    def test_the_same_artifact_keeps_its_number(self, folder: Path) -> None:
        registry = self.open(folder)
        first = registered(registry, folder, 1)
        registered(registry, folder, 2)
        source = folder / "sources" / "again"
        assert registry.register("tiny", source, variant(1).write(source)) == first
        assert len(registry.versions("tiny")) == 2

    def test_writers_at_the_same_time_never_get_one_number(self, folder: Path) -> None:
        start = threading.Barrier(WRITERS)

        def register(number: int) -> Reference:
            source = folder / "sources" / str(number)
            digest = variant(number).write(source)
            registry = self.open(folder)
            start.wait()
            return registry.register("tiny", source, digest)

        with ThreadPoolExecutor(WRITERS) as writers:
            references = list(writers.map(register, range(WRITERS)))
        assert sorted(int(reference.version) for reference in references) == list(range(1, WRITERS + 1))
        assert len({reference.digest for reference in references}) == WRITERS
        listed = {known.reference for known in self.open(folder).versions("tiny")}
        assert listed == set(references)

    def test_what_is_not_what_its_digest_says_is_not_registered(self, folder: Path) -> None:
        registry = self.open(folder)
        tiny().write(folder / "source")
        with pytest.raises(ArtifactError, match=f"must be {MISSING}"):
            registry.register("tiny", folder / "source", MISSING)
        assert list(registry.versions("tiny")) == []

    def test_a_reference_resolves_to_its_pinned_form(self, folder: Path) -> None:
        registry = self.open(folder)
        pinned = registered(registry, folder)
        assert registry.resolve(replace(pinned, digest="")) == pinned
        assert registry.resolve(pinned) == pinned

    def test_a_digest_that_is_not_the_versions_is_refused_with_the_line_to_write(self, folder: Path) -> None:
        registry = self.open(folder)
        pinned = registered(registry, folder)
        wrong = replace(pinned, digest=MISSING)
        with pytest.raises(UnresolvedReference) as refusal:
            registry.resolve(wrong)
        for part in (str(wrong), pinned.digest, f"write {pinned}"):
            assert part in str(refusal.value)

    def test_a_version_that_does_not_exist_is_refused_with_those_that_do(self, folder: Path) -> None:
        registry = self.open(folder)
        known = [registered(registry, folder, number) for number in (1, 2)]
        with pytest.raises(UnresolvedReference, match=r"no such version; it has 1, 2\."):
            registry.resolve(replace(known[0], version="3", digest=""))

    def test_a_model_that_does_not_exist_is_refused_with_what_to_run(self, folder: Path) -> None:
        reference = Reference.parse(str(registered(self.open(folder), folder)).replace("tiny", "unknown"))
        with pytest.raises(UnresolvedReference, match="model unknown: .*run `make train`"):
            self.open(folder).resolve(reference)

    def test_a_fetched_version_lies_under_its_digest_and_is_the_one_registered(self, folder: Path) -> None:
        registry = self.open(folder)
        reference = registered(registry, folder)
        fetched = registry.fetch(reference, folder / "artifacts")
        assert fetched == artifact_folder(folder / "artifacts", reference.digest)
        assert open_artifact(fetched, reference.digest).manifest.description == "variant 1"

    def test_fetching_again_changes_nothing(self, folder: Path) -> None:
        registry = self.open(folder)
        reference = registered(registry, folder)
        first = registry.fetch(reference, folder / "artifacts").stat()
        assert registry.fetch(reference, folder / "artifacts").stat() == first
        assert len(list((folder / "artifacts").iterdir())) == 1

    def test_many_may_fetch_at_the_same_time(self, folder: Path) -> None:
        reference = registered(self.open(folder), folder)
        start = threading.Barrier(WRITERS)

        def fetch(_: int) -> Path:
            registry = self.open(folder)
            start.wait()
            return registry.fetch(reference, folder / "artifacts")

        with ThreadPoolExecutor(WRITERS) as readers:
            fetched = set(readers.map(fetch, range(WRITERS)))
        assert fetched == set((folder / "artifacts").iterdir())
        assert open_artifact(fetched.pop(), reference.digest)

    def test_a_version_that_was_changed_is_not_fetched_and_leaves_nothing(self, folder: Path) -> None:
        reference = registered(self.open(folder), folder)
        self.damage(folder, reference)
        with pytest.raises(ArtifactError, match="model.onnx"):
            self.open(folder).fetch(reference, folder / "artifacts")
        assert list((folder / "artifacts").iterdir()) == []

    def test_nothing_is_fetched_for_a_digest_that_is_not_the_versions(self, folder: Path) -> None:
        wrong = replace(registered(self.open(folder), folder), digest=MISSING)
        with pytest.raises(StartError):
            self.open(folder).fetch(wrong, folder / "artifacts")
        assert not (folder / "artifacts").exists()
