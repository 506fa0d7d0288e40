from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from serving.adapters.model_registry import local
from serving.adapters.model_registry.local import LocalRegistry
from serving.domain.artifacts import artifact_folder
from serving.domain.errors import ArtifactError, UnresolvedReference
from serving.domain.references import Reference, write_lock
from serving.offline.bootstrap import open_registry
from serving.offline.registry import ModelRegistry
from tests.platform.contract.model_registry_contract import ModelRegistryContract, registered, variant
from tests.platform.support.workspace import THIS_REPO, environment

PROCESSES, EACH = 4, 5

REGISTER = """
import sys
from pathlib import Path
from serving.offline.bootstrap import open_registry
registry = open_registry("local", Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for source in sys.argv[2:]:
    path, digest = source.split("=", 1)
    print(registry.register("tiny", Path(path), digest))
"""


def opened(folder: Path) -> ModelRegistry:
    """Return the local registry in this folder."""
    return ModelRegistry("local", LocalRegistry(folder / "registry"))


class TestLocalRegistry(ModelRegistryContract):
    def open(self, folder: Path) -> ModelRegistry:
        return opened(folder)

    def backend(self, folder: Path) -> LocalRegistry:
        return LocalRegistry(folder / "registry")

    def damage(self, folder: Path, reference: Reference) -> None:
        kept = folder / "registry" / reference.model / reference.version / "artifact" / "model.onnx"
        kept.write_bytes(b"!" + kept.read_bytes()[1:])


def test_concurrent_processes_never_get_the_same_number(folder: Path) -> None:
    sources = [folder / "sources" / str(number) for number in range(PROCESSES * EACH)]
    written = [f"{source}={variant(number).write(source)}" for number, source in enumerate(sources)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REGISTER, str(folder / "registry"), *written[share::PROCESSES]],
            env=environment(THIS_REPO),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # all are ready: start
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    lines = [line for process in processes for line in process.communicate(timeout=60)[0].split()]
    references = {Reference.parse(line) for line in lines}
    assert sorted(int(reference.version) for reference in references) == list(range(1, PROCESSES * EACH + 1))
    assert {known.reference for known in opened(folder).versions("tiny")} == references


def test_a_half_written_version_does_not_exist_and_its_number_is_not_reused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = opened(folder)
    registered(registry, folder, 1)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(local, "write_synced", crash)
        with pytest.raises(KeyboardInterrupt):
            registered(registry, folder, 2)
    assert (folder / "registry" / "tiny" / "2" / "artifact" / "model.onnx").exists()
    assert [known.reference.version for known in registry.versions("tiny")] == ["1"]
    with pytest.raises(UnresolvedReference, match="no such version; it has 1"):
        registry.resolve(Reference.parse("local:tiny/2"))
    assert registered(registry, folder, 3).version == "3"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"digest": "1", "registered_at": ""}', b"\xff"])
def test_an_unreadable_record_is_named(folder: Path, content: bytes) -> None:
    registry = opened(folder)
    registered(registry, folder)
    (folder / "registry" / "tiny" / "1" / "record.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"tiny/1/record\.json: .*restore it or remove its folder"):
        registry.versions("tiny")


def pinned_as(folder: Path, version: str, digest: str) -> ModelRegistry:
    """Return the registry of this folder in a repo whose model.lock pins this version."""
    write_lock(folder / "model.lock", Reference("local", "tiny", version, digest))
    return ModelRegistry("local", LocalRegistry(folder / "registry", folder / "model.lock"))


def test_the_number_in_the_lock_is_reserved_for_its_artifact(folder: Path) -> None:
    registry = pinned_as(folder, "5", f"sha256={'0' * 64}")
    assert [registered(registry, folder, number).version for number in (1, 2)] == ["6", "7"]
    assert registered(registry, folder, name="other").version == "1"


def test_the_artifact_in_the_lock_gets_its_number_in_an_empty_registry(folder: Path) -> None:
    digest = variant(2).write(folder / "source")
    registry = pinned_as(folder, "5", digest)
    assert registered(registry, folder, 1).version == "6"
    assert registered(registry, folder, 2) == Reference("local", "tiny", "5", digest)
    assert registered(registry, folder, 3).version == "7"


def test_the_artifact_in_the_lock_gets_the_next_number_if_its_number_is_taken(folder: Path) -> None:
    registered(opened(folder), folder, 1)
    registry = pinned_as(folder, "1", variant(2).write(folder / "source"))
    assert registered(registry, folder, 2).version == "2"


@pytest.mark.parametrize("reference", ["mlflow:tiny/5", "local:other/5", "local:tiny/v5"])
def test_a_lock_that_pins_no_number_here_reserves_none(folder: Path, reference: str) -> None:
    write_lock(folder / "model.lock", replace(Reference.parse(reference), digest=f"sha256={'0' * 64}"))
    registry = ModelRegistry("local", LocalRegistry(folder / "registry", folder / "model.lock"))
    assert registered(registry, folder).version == "1"


def test_files_that_are_not_versions_are_ignored(folder: Path) -> None:
    registry = opened(folder)
    registered(registry, folder)
    (folder / "registry" / "tiny" / "notes").mkdir()
    (folder / "registry" / "tiny" / "7").write_text("a file", encoding="utf-8")
    assert [known.reference.version for known in registry.versions("tiny")] == ["1"]


def test_an_unknown_stage_is_refused_with_the_known_ones(folder: Path) -> None:
    registry = opened(folder)
    registered(registry, folder)
    with pytest.raises(UnresolvedReference, match="stage 'latest' is not one of champion, challenger"):
        registry.resolve(Reference.parse("local:tiny@latest"))


def test_an_artifact_with_an_extra_file_is_not_registered(folder: Path) -> None:
    digest = variant(1).write(folder / "source")
    (folder / "source" / "extra").write_bytes(b"")
    with pytest.raises(ArtifactError, match="does not list"):
        opened(folder).register("tiny", folder / "source", digest)
    assert not (folder / "registry").exists()


def test_the_scheme_of_a_reference_selects_the_registry(folder: Path) -> None:
    reference = registered(open_registry("local", folder / "registry"), folder)
    assert reference.scheme == "local"
    assert open_registry("local", folder / "registry").fetch(reference, folder) == artifact_folder(
        folder, reference.digest
    )


def test_a_registry_that_is_not_part_of_this_repo_is_reported(folder: Path) -> None:
    with pytest.raises(UnresolvedReference, match=r"model registry 'nowhere' is not part of this repo; it has .*local"):
        open_registry("nowhere", folder)


def test_a_new_version_is_returned_as_it_is_listed(folder: Path) -> None:
    digest = variant(1).write(folder / "source")
    registry = LocalRegistry(folder / "registry")
    added = registry.add("tiny", folder / "source", digest, "import", timeout=60.0)
    assert registry.read("tiny", timeout=60.0).versions == (added,)
    assert added.origin == "import"
    assert added.registered_at.endswith("+00:00")


def test_a_record_of_before_origins_has_none(folder: Path) -> None:
    digest = variant(1).write(folder / "source")
    registry = LocalRegistry(folder / "registry")
    registry.add("tiny", folder / "source", digest, "import", timeout=60.0)
    (record,) = (folder / "registry" / "tiny" / "1").glob("*.json")
    kept = json.loads(record.read_bytes())
    del kept["origin"]
    record.write_text(json.dumps(kept), encoding="utf-8")
    assert [version.origin for version in registry.read("tiny", timeout=60.0).versions] == [""]
