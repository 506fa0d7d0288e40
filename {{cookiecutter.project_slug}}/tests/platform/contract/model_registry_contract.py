"""The contract of every model registry; an adapter's test module subclasses it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serving.adapters.model_registry.local import LocalRegistry
from serving.domain.artifacts import artifact_folder, open_artifact
from serving.domain.errors import (
    ArtifactError,
    OperatorError,
    RegistryError,
    RegistryUnavailable,
    StalePromotion,
    UnresolvedReference,
)
from serving.domain.lineage import LINEAGE, Lineage
from serving.domain.ports import ModelRecord, Promotion, RegisteredVersion, RegistryBackend
from serving.domain.references import Reference
from serving.offline.registry import CHAMPION, ModelRegistry, copy
from tests.platform.support.artifacts import Model, tiny

WRITERS = 8
MISSING = f"sha256={'0' * 64}"


def variant(number: int, name: str = "tiny") -> Model:
    """Return models with different content, and so different digests."""
    model = tiny(name)
    (output,) = model.manifest.outputs
    described = replace(output, description=f"variant {number}")
    return replace(model, manifest=replace(model.manifest, outputs=(described,)))


def registered(registry: ModelRegistry, folder: Path, number: int = 1, name: str = "tiny") -> Reference:
    """Write an artifact and register it."""
    source = folder / "sources" / f"{name}-{number}"
    return registry.register(name, source, variant(number, name).write(source))


class ModelRegistryContract(ABC):
    """Every test opens registries that share one storage."""

    @abstractmethod
    def open(self, folder: Path) -> ModelRegistry:
        """Open the registry of this folder."""

    @abstractmethod
    def backend(self, folder: Path) -> RegistryBackend:
        """Open the backend without the registry's rules."""

    @abstractmethod
    def damage(self, folder: Path, reference: Reference) -> None:
        """Change a version's model file inside the registry."""

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

    def test_each_model_is_numbered_separately(self, folder: Path) -> None:
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

    def test_an_artifact_keeps_its_first_lineage(self, folder: Path) -> None:
        registry = self.open(folder)
        for commit in ("first", "second"):
            made = replace(variant(1), lineage=Lineage("Adds", commit, parameters={"alpha": 0.5}, metrics={"r2": 1.0}))
            reference = registry.register("tiny", folder / commit, made.write(folder / commit))
        fetched = open_artifact(registry.fetch(reference, folder / "artifacts"), reference.digest)
        assert fetched.lineage == replace(made.lineage, git_commit="first")

    def test_an_artifact_without_lineage_is_kept_and_fetched(self, folder: Path) -> None:
        registry, source = self.open(folder), folder / "source"
        digest = variant(1).write(source)
        (source / LINEAGE).unlink()
        fetched = registry.fetch(registry.register("tiny", source, digest), folder / "artifacts")
        assert open_artifact(fetched, digest).lineage == Lineage()

    def test_concurrent_writers_never_get_the_same_number(self, folder: Path) -> None:
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

    def test_an_artifact_that_does_not_match_its_digest_is_not_registered(self, folder: Path) -> None:
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

    def test_a_digest_of_another_version_is_refused_with_the_line_to_write(self, folder: Path) -> None:
        registry = self.open(folder)
        pinned = registered(registry, folder)
        wrong = replace(pinned, digest=MISSING)
        with pytest.raises(UnresolvedReference) as refusal:
            registry.resolve(wrong)
        for part in (str(wrong), pinned.digest, f"write {pinned}"):
            assert part in str(refusal.value)

    def test_an_unknown_version_is_refused_with_the_known_ones(self, folder: Path) -> None:
        registry = self.open(folder)
        known = [registered(registry, folder, number) for number in (1, 2)]
        with pytest.raises(UnresolvedReference, match=r"no such version; it has 1, 2\."):
            registry.resolve(replace(known[0], version="3", digest=""))

    def test_an_unknown_model_is_refused_with_the_command_to_run(self, folder: Path) -> None:
        reference = Reference.parse(str(registered(self.open(folder), folder)).replace("tiny", "unknown"))
        with pytest.raises(UnresolvedReference, match="model unknown: .*run `make train`"):
            self.open(folder).resolve(reference)

    def test_a_fetched_version_is_stored_under_its_digest_unchanged(self, folder: Path) -> None:
        registry = self.open(folder)
        reference = registered(registry, folder)
        fetched = registry.fetch(reference, folder / "artifacts")
        assert fetched == artifact_folder(folder / "artifacts", reference.digest)
        assert open_artifact(fetched, reference.digest).manifest.outputs[0].description == "variant 1"

    def test_fetching_again_changes_nothing(self, folder: Path) -> None:
        registry = self.open(folder)
        reference = registered(registry, folder)
        first = registry.fetch(reference, folder / "artifacts").stat()
        assert registry.fetch(reference, folder / "artifacts").stat() == first
        assert len(list((folder / "artifacts").iterdir())) == 1

    def test_a_version_can_be_fetched_concurrently(self, folder: Path) -> None:
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

    def test_a_tampered_version_is_not_fetched_and_leaves_nothing_behind(self, folder: Path) -> None:
        reference = registered(self.open(folder), folder)
        self.damage(folder, reference)
        with pytest.raises(ArtifactError, match="model.onnx"):
            self.open(folder).fetch(reference, folder / "artifacts")
        assert list((folder / "artifacts").iterdir()) == []

    def test_a_fetched_version_that_was_changed_is_fetched_again(self, folder: Path) -> None:
        reference = registered(self.open(folder), folder)
        model = self.open(folder).fetch(reference, folder / "artifacts") / "model.onnx"
        model.write_bytes(b"broken")
        fetched = self.open(folder).fetch(reference, folder / "artifacts")
        assert open_artifact(fetched, reference.digest)
        assert list((folder / "artifacts").iterdir()) == [fetched]

    def test_nothing_is_fetched_for_a_digest_of_another_version(self, folder: Path) -> None:
        wrong = replace(registered(self.open(folder), folder), digest=MISSING)
        with pytest.raises(OperatorError):
            self.open(folder).fetch(wrong, folder / "artifacts")
        assert not (folder / "artifacts").exists()

    def test_a_stage_names_the_version_that_was_promoted(self, folder: Path) -> None:
        registry = self.open(folder)
        first, second = (registered(registry, folder, number) for number in (1, 2))
        assert registry.holder("tiny", CHAMPION) == "none"
        registry.promote(first, CHAMPION, expect="none", by="ann")
        registry.promote(second, CHAMPION, expect="1", by="bob")
        registry.promote(first, "challenger", expect="none", by="bob")
        again = self.open(folder)
        assert again.resolve(replace(second, version="", digest="", stage=CHAMPION)) == second
        assert again.resolve(replace(second, version="", digest="", stage="challenger")) == first
        message = [(entry.number, entry.stage, entry.version, entry.by) for entry in again.record("tiny").promotions]
        assert message == [(1, CHAMPION, "1", "ann"), (2, CHAMPION, "2", "bob"), (3, "challenger", "1", "bob")]

    def test_a_stage_that_no_version_holds_does_not_resolve(self, folder: Path) -> None:
        reference = registered(self.open(folder), folder)
        with pytest.raises(UnresolvedReference, match="no version has this stage .*it has 1"):
            self.open(folder).resolve(replace(reference, version="", digest="", stage=CHAMPION))

    def test_promoting_the_holder_of_a_stage_again_changes_nothing(self, folder: Path) -> None:
        registry = self.open(folder)
        reference = registered(registry, folder)
        first = registry.promote(reference, CHAMPION, expect="none", by="ann")
        assert registry.promote(reference, CHAMPION, expect="1", by="bob") == first
        assert list(registry.record("tiny").promotions) == [first]

    def test_a_stale_promotion_is_refused_and_changes_nothing(self, folder: Path) -> None:
        registry = self.open(folder)
        first, second, third = (registered(registry, folder, number) for number in (1, 2, 3))
        registry.promote(first, CHAMPION, expect="none", by="ann")
        registry.promote(second, CHAMPION, expect="1", by="ann")
        with pytest.raises(StalePromotion, match="is version 2, not 1; .*--expect 2"):
            registry.promote(third, CHAMPION, expect="1", by="bob")
        assert self.open(folder).holder("tiny", CHAMPION) == "2"

    def test_a_number_in_the_history_is_used_once(self, folder: Path) -> None:
        registry = self.open(folder)
        promotion = registry.promote(registered(registry, folder), CHAMPION, expect="none", by="ann")
        with pytest.raises(StalePromotion, match="another promotion came first"):
            self.backend(folder).append("tiny", replace(promotion, by="bob"), timeout=60)
        assert [entry.by for entry in registry.record("tiny").promotions] == ["ann"]

    def test_of_promotions_at_once_one_is_recorded_and_the_others_are_stale(self, folder: Path) -> None:
        registry = self.open(folder)
        first = registry.promote(registered(registry, folder), CHAMPION, expect="none", by="ann")
        start = threading.Barrier(WRITERS)

        def promote(number: int) -> str:
            backend = self.backend(folder)
            start.wait()
            try:
                backend.append("tiny", replace(first, number=2, by=f"writer {number}"), timeout=60)
            except StalePromotion:
                return ""
            return f"writer {number}"

        with ThreadPoolExecutor(WRITERS) as writers:
            recorded = [by for by in writers.map(promote, range(WRITERS)) if by]
        assert [entry.by for entry in registry.record("tiny").promotions] == ["ann", *recorded]
        assert len(recorded) == 1

    def test_each_rollback_goes_back_one_version(self, folder: Path) -> None:
        registry = self.open(folder)
        references = [registered(registry, folder, number) for number in (1, 2, 3)]
        for number, reference in enumerate(references):
            registry.promote(reference, CHAMPION, expect=str(number or "none"), by="ann")
        for expected in ("2", "1"):
            back = registry.rollback("tiny", CHAMPION, by="bob")
            assert (back.version, back.kind, back.by) == (expected, "rollback", "bob")
            assert self.open(folder).holder("tiny", CHAMPION) == expected
        with pytest.raises(RegistryError, match="version 1 is the first that had it"):
            registry.rollback("tiny", CHAMPION, by="bob")

    def test_the_next_rollback_undoes_a_promotion_made_after_a_rollback(self, folder: Path) -> None:
        registry = self.open(folder)
        first, second, third = (registered(registry, folder, number) for number in (1, 2, 3))
        registry.promote(first, CHAMPION, expect="none", by="ann")
        registry.promote(second, CHAMPION, expect="1", by="ann")
        registry.rollback("tiny", CHAMPION, by="ann")
        registry.promote(third, CHAMPION, expect="1", by="ann")
        assert registry.rollback("tiny", CHAMPION, by="ann").version == "1"

    def test_a_rollback_returns_to_the_served_version_not_to_one_promoted_by_another_branch(self, folder: Path) -> None:
        registry = self.open(folder)
        first, elsewhere, third = (registered(registry, folder, number) for number in (1, 2, 3))
        registry.promote(first, CHAMPION, expect="none", by="ann", replaced="")
        registry.promote(elsewhere, CHAMPION, expect="1", by="bob", replaced=first.digest)
        registry.promote(third, CHAMPION, expect="2", by="ann", replaced=first.digest)
        assert registry.previous("tiny", CHAMPION) == first
        assert registry.rollback("tiny", CHAMPION, by="ann").version == "1"
        assert self.open(folder).holder("tiny", CHAMPION) == "1"
        with pytest.raises(RegistryError, match="version 1 is the first that had it"):
            registry.rollback("tiny", CHAMPION, by="ann")

    def test_a_version_that_is_served_and_promoted_again_keeps_what_it_replaced(self, folder: Path) -> None:
        registry = self.open(folder)
        first, second, third, elsewhere = (registered(registry, folder, number) for number in (1, 2, 3, 4))
        for reference, expect in ((first, "none"), (second, "1"), (third, "2")):
            registry.promote(reference, CHAMPION, expect=expect, by="ann")
        assert registry.rollback("tiny", CHAMPION, by="ann").version == "2"
        registry.promote(elsewhere, CHAMPION, expect="2", by="bob", replaced=second.digest)
        registry.promote(second, CHAMPION, expect="4", by="ann", replaced=second.digest)
        assert registry.rollback("tiny", CHAMPION, by="ann").version == "1"

    def test_a_rollback_finds_a_served_version_that_never_held_the_stage(self, folder: Path) -> None:
        registry = self.open(folder)
        first, second = (registered(registry, folder, number) for number in (1, 2))
        registry.promote(second, CHAMPION, expect="none", by="ann", replaced=first.digest)
        assert registry.rollback("tiny", CHAMPION, by="ann").version == "1"
        assert self.open(folder).holder("tiny", CHAMPION) == "1"

    def test_a_rollback_to_a_version_that_is_not_in_this_registry_is_refused(self, folder: Path) -> None:
        registry = self.open(folder)
        registry.promote(registered(registry, folder), CHAMPION, expect="none", by="ann", replaced=MISSING)
        with pytest.raises(RegistryError, match=f"the version served before, {MISSING}, is not in this registry"):
            registry.rollback("tiny", CHAMPION, by="ann")

    def test_a_stage_that_was_never_promoted_can_not_be_rolled_back(self, folder: Path) -> None:
        registry = self.open(folder)
        registered(registry, folder)
        with pytest.raises(RegistryError, match="no version ever had it"):
            registry.rollback("tiny", CHAMPION, by="ann")

    def test_a_version_keeps_its_digest_when_copied_in_either_direction(self, folder: Path) -> None:
        here, there = self.open(folder), ModelRegistry("local", LocalRegistry(folder / "elsewhere"))
        reference = registered(here, folder)
        copied = copy(here, reference, there, folder / "artifacts")
        assert copied.digest == reference.digest
        assert there.versions("tiny")[0].origin == str(reference)
        assert copy(there, copied, here, folder / "artifacts") == reference
        other = registered(there, folder, 2)
        back = copy(there, other, here, folder / "artifacts")
        assert (back.scheme, back.version, back.digest) == (reference.scheme, "2", other.digest)
        assert self.open(folder).versions("tiny")[1].origin == str(other)

    def test_a_verified_version_needs_no_registry(self, folder: Path) -> None:
        reference = registered(self.open(folder), folder)
        fetched = self.open(folder).fetch(reference, folder / "artifacts")
        assert ModelRegistry(reference.scheme, Away()).fetch(reference, folder / "artifacts") == fetched


class Away:
    """A backend that is unavailable."""

    def read(self, model: str, *, timeout: float) -> ModelRecord:
        raise RegistryUnavailable("the registry does not answer.")

    def add(self, model: str, artifact: Path, digest: str, origin: str, *, timeout: float) -> RegisteredVersion:
        raise RegistryUnavailable("the registry does not answer.")

    def download(self, version: Reference, folder: Path, *, timeout: float) -> None:
        raise RegistryUnavailable("the registry does not answer.")

    def append(self, model: str, promotion: Promotion, *, timeout: float) -> None:
        raise RegistryUnavailable("the registry does not answer.")
