"""A clone has model.lock and model.lineage.json, and an empty registry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from serving.domain.artifacts import open_artifact
from serving.domain.errors import OperatorError
from serving.domain.references import Reference, read_lock, write_lock
from serving.offline import model_version, project, rebuild, user_model
from serving.offline import train as training
from tests.platform.support.training import fewer, registered
from tests.platform.support.workspace import GIT_KEEPS, Workspace, keep_below


@pytest.fixture
def here(clone: Workspace, monkeypatch: pytest.MonkeyPatch) -> Reference:
    """Point scripts in this process at a clone; return its pinned reference."""
    keep_below(clone.root, monkeypatch)
    return read_lock(project.LOCK)


def content(root: Path) -> Mapping[str, bytes]:
    """Return every file of a clone that a refusal must leave as it is."""
    paths = [root / name for name in GIT_KEEPS] + [path for path in (root / "registry").rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in paths}


def refused(clone: Workspace) -> str:
    """Run a rebuild that must be refused and change nothing; return its message."""
    before = content(clone.root)
    with pytest.raises(OperatorError) as refusal:
        rebuild.main([])
    assert content(clone.root) == before
    return str(refusal.value)


def test_a_clone_rebuilds_the_pinned_version_and_changes_no_tracked_file(
    clone: Workspace, here: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(clone.root)
    assert rebuild.main([]) == 0
    assert capsys.readouterr().out.endswith(f"rebuilt {here}\n")
    assert {name: after for name, after in content(clone.root).items() if name in before} == before
    artifact = open_artifact(project.REGISTRY / here.model / here.version / "artifact", here.digest)
    pinned = json.loads((clone.root / "model.lineage.json").read_bytes())["lineage"]
    assert artifact.lineage.git_commit == pinned["git_commit"]
    assert artifact.lineage.trained_at == pinned["trained_at"]
    assert rebuild.main([]) == 0
    assert capsys.readouterr().out == f"nothing to rebuild: the registry has {here}\n"


def test_after_a_rebuild_the_next_version_can_be_promoted_and_rolled_back(
    here: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rebuild.main([]) == 0
    monkeypatch.setattr(user_model, "dataset", lambda: fewer(1))
    assert training.main(["--no-promote"]) == 0
    assert model_version.main(["promote", f"local:{here.model}/2"]) == 0
    assert read_lock(project.LOCK).version == "2"
    assert model_version.main(["rollback"]) == 0
    assert read_lock(project.LOCK) == here


def test_other_data_is_refused_by_name(clone: Workspace, here: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_model, "dataset", lambda: fewer(1))
    message = refused(clone)
    assert message.startswith(f"{here}: can't be rebuilt; this checkout gives sha256=")
    assert "the training data differs (sha256=" in message
    assert message.endswith("copy the version from a machine that has it, or pin a new one with `make train`.")


def test_other_parameters_libraries_and_machines_are_refused_by_name(
    clone: Workspace, here: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = clone.root / "model.lineage.json"
    pinned = json.loads(file.read_bytes())
    name = next(iter(pinned["lineage"]["parameters"]))
    pinned["lineage"]["parameters"][name] = "another"
    pinned["lineage"]["libraries"]["numpy"] = "1.0.0"
    pinned["lineage"]["machine"]["CPU"] = "One"
    file.write_text(json.dumps(pinned), encoding="utf-8")
    monkeypatch.setattr(user_model, "dataset", lambda: fewer(1))
    message = refused(clone)
    for words in (
        "the training data differs",
        f"parameter {name} was another, here ",
        "numpy was 1.0.0, here ",
        "the CPU was One, here ",
    ):
        assert words in message


@pytest.mark.parametrize("text", ["", "{", '{"digest": "sha256=0", "lineage": {}}'])
def test_a_refusal_says_that_the_pinned_lineage_is_missing(
    clone: Workspace, here: Reference, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clone.root / "model.lineage.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(user_model, "dataset", lambda: fewer(1))
    assert "model.lineage.json does not describe this version" in refused(clone)


def test_a_number_of_another_artifact_is_refused_and_training_takes_the_next(
    clone: Workspace, here: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(project, "LOCK", clone.root / "none")
        other = registered(fewer(1))
    assert other.version == here.version
    message = refused(clone)
    assert message == (
        f"{here}: the registry of this machine has another artifact under this number ({other.digest}); "
        "`make train` registers this checkout's model under the next number and pins it."
    )
    assert training.main([]) == 0
    assert read_lock(project.LOCK) == replace(here, version="2")


def test_an_incomplete_version_is_refused_with_its_folder(clone: Workspace, here: Reference) -> None:
    half = project.REGISTRY / here.model / here.version
    half.mkdir(parents=True)
    assert refused(clone) == f"{half}: holds an incomplete version; remove the folder, then run `make rebuild`."


def test_a_version_in_a_remote_registry_is_not_rebuilt(clone: Workspace, here: Reference) -> None:
    write_lock(project.LOCK, replace(here, scheme="mlflow"))
    assert "is kept in mlflow, so it is fetched, not rebuilt; `make run` fetches it" in refused(clone)


def test_without_a_pinned_version_there_is_nothing_to_rebuild(clone: Workspace, here: Reference) -> None:
    project.LOCK.write_text("MODEL_VERSION=\n", encoding="utf-8")
    assert "pins no model version yet; run `make train`" in refused(clone)


@pytest.mark.parametrize("command", [("tools.run",), ("tools.predict",), ("serving.offline.model_version", "fetch")])
def test_in_a_clone_a_command_names_the_way_to_the_version(clone: Workspace, command: tuple[str, ...]) -> None:
    reference = read_lock(clone.root / "model.lock")
    assert clone.refusal(*command) == (
        f"error: {reference}: is pinned in model.lock, but not in the registry of this machine; "
        "`make rebuild` trains it from this checkout."
    )


def test_training_in_a_clone_gives_the_pinned_version_and_rewrites_nothing(clone: Workspace, here: Reference) -> None:
    before = content(clone.root)
    assert training.main([]) == 0
    assert {name: after for name, after in content(clone.root).items() if name in before} == before


def test_training_another_model_in_a_clone_takes_a_number_above_the_pinned_one(
    clone: Workspace, here: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lock(project.LOCK, replace(here, version="4"))
    monkeypatch.setattr(user_model, "dataset", lambda: fewer(1))
    assert training.main([]) == 0
    assert read_lock(project.LOCK).version == "5"
