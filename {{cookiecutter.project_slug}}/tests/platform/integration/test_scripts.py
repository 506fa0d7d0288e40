from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from serving.domain.artifacts import Artifact, open_artifact
from serving.domain.errors import ArtifactError, OperatorError, RegistryError, StalePromotion, UnresolvedReference
from serving.domain.lineage import Lineage
from serving.domain.references import Reference, read_lock, write_lock
from serving.offline import exporting, model_version, project, user_model
from serving.offline import train as training
from serving.offline.estimators import answers
from serving.offline.pinning import pinned_lineage
from tests.platform.support.server import ServerProcess
from tests.platform.support.training import fewer, registered
from tests.platform.support.workspace import Workspace, keep_below

MISSING = f"sha256={'0' * 64}"


@pytest.fixture
def reference(trained: Workspace) -> Reference:
    return read_lock(trained.root / "model.lock")


def kept(root: Path, reference: Reference) -> Artifact:
    """Return a version as stored in the registry of a repo."""
    return open_artifact(root / "registry" / reference.model / reference.version / "artifact", reference.digest)


def pinned(reference: Reference) -> dict[str, Any] | None:
    """Return the committed lineage of a version."""
    lineage = pinned_lineage(reference)
    return None if lineage is None else lineage.outline()


@pytest.fixture
def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let training in this process register and pin in an empty folder."""
    keep_below(folder, monkeypatch)
    return folder


def test_training_again_on_the_same_data_gives_the_same_version(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert training.main([]) == 0
    first = read_lock(elsewhere / "model.lock")
    assert training.main([]) == 0
    assert read_lock(elsewhere / "model.lock") == first
    assert capsys.readouterr().out.count(f"registered {first}") == 2
    assert {path.name for path in (elsewhere / "registry" / first.model).iterdir()} == {"1", "promotions"}


def test_training_on_other_data_gives_the_next_version_and_both_stay(elsewhere: Path) -> None:
    first, second = (registered(data) for data in (user_model.dataset(), fewer(1)))
    assert (first.version, second.version) == ("1", "2")
    digests = {kept(elsewhere, reference).lineage.data_digest for reference in (first, second)}
    assert len(digests) == 2


def test_an_export_with_different_answers_is_not_registered(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def turned(*arguments: Any) -> dict[str, Any]:
        return {name: values[::-1] for name, values in answers(*arguments).items()}

    monkeypatch.setattr(training, "answers", turned)
    with pytest.raises(ArtifactError, match=r"the exported model differs from the original in \d+ of \d+ rows"):
        training.main([])
    assert not (elsewhere / "model.lock").exists()
    assert not (elsewhere / "registry").exists()


def model_in(artifact: Path) -> Path:
    """Return the model's file, whatever its format."""
    (model,) = artifact.glob("model.*")
    return model


def test_a_version_records_its_lineage(example: Workspace) -> None:
    reference = read_lock(example.root / "model.lock")
    artifact = kept(example.root, reference)
    assert artifact.manifest.model == reference.model
    lineage = artifact.lineage
    assert lineage.description == project.service()["description"]
    assert lineage.data_digest.startswith("sha256=")
    always = {"python", *exporting.LIBRARIES}
    assert always <= set(lineage.libraries)
    assert set(lineage.libraries) & {"scikit-learn", "keras"}, "the estimator's own library is missing"
    assert datetime.fromisoformat(lineage.trained_at) <= datetime.now(UTC)
    assert lineage.machine.keys() == {"system", "CPU"}
    assert lineage.metrics
    assert lineage.parameters
    content = json.loads((example.root / "model.lineage.json").read_bytes())
    assert content == {"digest": reference.digest, "lineage": lineage.outline()}


def test_a_version_has_the_distributions_of_its_training_rows(example: Workspace) -> None:
    """The digest does not cover them, and they are not committed."""
    artifact = kept(example.root, read_lock(example.root / "model.lock"))
    assert set(artifact.lineage.distributions.outputs) <= {spec.name for spec in artifact.manifest.outputs}
    inputs = artifact.lineage.distributions.inputs
    assert set(inputs) <= {feature.name for feature in artifact.manifest.features.model_inputs}
    assert all(sum(known.shares) == pytest.approx(1) for known in inputs.values())
    assert "distributions" not in json.loads((example.root / "model.lineage.json").read_bytes())["lineage"]


def test_versions_are_listed_and_the_served_one_is_marked(example: Workspace) -> None:
    reference = read_lock(example.root / "model.lock")
    assert example.printed("serving.offline.model_version", "list").endswith(
        f"  {reference}  champion  <- model.lock\n"
    )


def version_script(workspace: Workspace, *arguments: str) -> int:
    """Run the versions' command line in this process."""
    return model_version.main(["--registry", str(workspace.root / "registry"), *arguments])


def test_a_reference_is_resolved_to_its_pinned_form(example: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    reference = read_lock(example.root / "model.lock")
    assert version_script(example, "resolve", f"local:{reference.model}/{reference.version}") == 0
    assert capsys.readouterr().out == f"{reference}\n"


def test_a_version_is_fetched_into_the_given_folder(example: Workspace, folder: Path) -> None:
    reference = read_lock(example.root / "model.lock")
    for _ in range(2):
        version_script(example, "fetch", str(reference), "--artifacts", str(folder / "elsewhere"))
    (artifact,) = (folder / "elsewhere").iterdir()
    assert open_artifact(artifact, reference.digest)


@pytest.mark.parametrize(
    ("command", "text", "words"),
    [
        ("resolve", "local:{model}/9", "no such version; it has 1."),
        ("resolve", "local:{model}@production", "stage 'production' is not one of champion, challenger"),
        ("resolve", "local:{model}@challenger", "no version has this stage in the local registry"),
        ("resolve", "local:unknown/1", "run `make train`"),
        ("resolve", "nonsense", "can't be parsed; the form is scheme:model/version#sha256="),
        ("resolve", "nowhere:{model}/1", "model registry 'nowhere' is not part of this repo"),
        ("fetch", "local:{model}/1", "is not pinned; write scheme:model/version#sha256="),
        ("fetch", "local:{model}/1#" + MISSING, "to serve that one write local:"),
    ],
)
def test_a_reference_that_can_not_be_resolved_is_refused(
    example: Workspace, command: str, text: str, words: str
) -> None:
    reference = read_lock(example.root / "model.lock")
    with pytest.raises(UnresolvedReference) as refusal:
        version_script(example, command, text.format(model=reference.model))
    assert words in str(refusal.value)


def test_a_tampered_version_is_not_fetched(trained: Workspace, reference: Reference) -> None:
    model = model_in(trained.root / "registry" / reference.model / "1" / "artifact")
    model.write_bytes(model.read_bytes()[:-1])
    shutil.rmtree(trained.root / "artifacts")
    assert f"{model.name}: sha256 is" in trained.refusal("serving.offline.model_version", "fetch")
    assert not list((trained.root / "artifacts").iterdir())


def test_the_command_in_the_refusal_repairs_a_fetched_version_that_was_changed(
    trained: Workspace, reference: Reference
) -> None:
    model = model_in(trained.root / "artifacts" / reference.digest.removeprefix("sha256="))
    model.write_bytes(model.read_bytes()[:-1])
    with ServerProcess(trained.root) as server:
        server.wait_until_listening()
    assert f"{model.name}: sha256 is" in server.log
    assert "fetch the artifact again (`make versions ARGS=fetch`)" in server.log
    trained.printed("serving.offline.model_version", "fetch")
    assert open_artifact(model.parent, reference.digest)


def test_run_fetches_and_serves_until_it_is_interrupted(trained: Workspace, reference: Reference) -> None:
    shutil.rmtree(trained.root / "artifacts")
    with ServerProcess(trained.root, module="tools.run") as server:
        assert server.metrics()["serving_ready"] == 1
        server.signal(signal.SIGINT)
        assert server.wait() == 0
    assert f"serving {reference}" in server.log


def test_run_refuses_an_unpinned_version_with_the_line_to_write(example: Workspace) -> None:
    reference = read_lock(example.root / "model.lock")
    done = example.run("tools.run", MODEL_VERSION=f"local:{reference.model}@champion")
    assert done.returncode == 1
    assert f"@champion is not pinned; write MODEL_VERSION='{reference}'" in done.stderr
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: ")


def test_run_resolves_an_unpinned_version_if_allowed(trained: Workspace, reference: Reference) -> None:
    unpinned = f"local:{reference.model}/{reference.version}"
    with ServerProcess(
        trained.root, module="tools.run", MODEL_VERSION=unpinned, SERVING_ALLOW_UNPINNED="true"
    ) as server:
        assert server.metrics()["serving_ready"] == 1
        server.signal(signal.SIGINT)
        assert server.wait() == 0
    assert f"warning: {unpinned} is not pinned; serving what it means now: {reference}" in server.log


def test_a_broken_service_file_is_reported_in_one_sentence(trained: Workspace) -> None:
    (trained.root / "config" / "service.toml").write_text("[service]\nname = 1\n", "utf-8")
    assert "must have a table [service] with name, description and organization" in trained.refusal(
        "serving.offline.model_version", "list"
    )


@pytest.fixture
def two_versions(trained: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Reference, Reference]:
    """Let the versions' command line work in a repo with a second champion."""
    monkeypatch.chdir(trained.root)
    keep_below(trained.root, monkeypatch)
    first = read_lock(project.LOCK)
    second = registered(fewer(1))
    assert model_version.main(["promote", str(second)]) == 0
    return first, second


def test_promoting_pins_the_champion_and_rolling_back_pins_the_one_before(
    two_versions: tuple[Reference, Reference], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two_versions
    assert read_lock(project.LOCK) == second
    assert pinned(second) == kept(project.REGISTRY.parent, second).lineage.outline()
    capsys.readouterr()
    assert model_version.main(["rollback"]) == 0
    goal, *_, again = capsys.readouterr().out.splitlines()
    assert (goal, again) == (f"rolling back to {first} ...", f"{first} is champion again")
    assert read_lock(project.LOCK) == first
    assert pinned(first) == kept(project.REGISTRY.parent, first).lineage.outline()
    with pytest.raises(RegistryError, match="version 1 is the first that had it"):
        model_version.main(["rollback"])
    assert read_lock(project.LOCK) == first


def test_a_promotion_says_that_running_servers_keep_the_previous_version(
    two_versions: tuple[Reference, Reference], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two_versions
    capsys.readouterr()
    assert model_version.main(["promote", str(first)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{first} is champion",
        "running servers keep the previous version until `make deploy` (containers) or a new `make run`",
    ]
    assert model_version.main(["promote", str(first)]) == 0
    assert capsys.readouterr().out == f"{first} is champion\n"
    assert model_version.main(["promote", "--json", str(second)]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == "2"


def by_training(_: str) -> int:
    return training.main([])


def by_promoting(champion: str) -> int:
    return model_version.main(["promote", str(registered(fewer(2))), "--expect", champion])


@pytest.mark.parametrize("serve", [by_training, by_promoting])
def test_a_rollback_returns_to_the_version_that_this_branch_served_before(
    two_versions: tuple[Reference, Reference], serve: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, elsewhere = two_versions
    write_lock(project.LOCK, first)  # as git does on the way back from the branch that trained version 2
    monkeypatch.setattr(user_model, "dataset", lambda: fewer(2))
    assert serve(elsewhere.version) == 0
    assert read_lock(project.LOCK).version == "3"
    assert model_version.main(["rollback"]) == 0
    assert read_lock(project.LOCK) == first


def test_a_promotion_that_expects_another_holder_is_refused_and_pins_nothing(
    two_versions: tuple[Reference, Reference],
) -> None:
    first, second = two_versions
    with pytest.raises(StalePromotion, match="is version 2, not 1"):
        model_version.main(["promote", str(first), "--expect", "1"])
    assert read_lock(project.LOCK) == second


def test_a_lock_that_is_not_the_champion_is_not_rolled_back(two_versions: tuple[Reference, Reference]) -> None:
    write_lock(project.LOCK, two_versions[0])
    with pytest.raises(OperatorError, match="champion is version 2; promote the intended one"):
        model_version.main(["rollback"])


def test_a_version_that_can_not_be_fetched_is_not_promoted(two_versions: tuple[Reference, Reference]) -> None:
    first, second = two_versions
    shutil.rmtree(project.ARTIFACTS)
    model = model_in(project.REGISTRY / first.model / "1" / "artifact")
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=re.escape(model.name)):
        model_version.main(["promote", str(first)])
    assert read_lock(project.LOCK) == second


def test_training_without_promoting_leaves_the_lock_alone(
    two_versions: tuple[Reference, Reference], capsys: pytest.CaptureFixture[str]
) -> None:
    assert training.main(["--no-promote"]) == 0
    assert f"registered {two_versions[0]}" in capsys.readouterr().out
    assert read_lock(project.LOCK) == two_versions[1]


def test_a_version_that_is_pinned_already_rewrites_neither_lock_nor_lineage(elsewhere: Path) -> None:
    assert training.main([]) == 0
    files = (project.LOCK, project.LOCK.with_name("model.lineage.json"))
    contents = [path.read_bytes() for path in files]
    stamps = [path.stat() for path in files]
    assert training.main([]) == 0
    assert [path.stat() for path in files] == stamps
    files[1].write_text("{", encoding="utf-8")
    assert training.main([]) == 0
    assert [path.read_bytes() for path in files] == contents


def test_show_prints_everything_known_about_a_version(
    two_versions: tuple[Reference, Reference], capsys: pytest.CaptureFixture[str]
) -> None:
    second = two_versions[1]
    capsys.readouterr()
    assert model_version.main(["show", "--json", f"local:{second.model}@champion"]) == 0
    message = json.loads(capsys.readouterr().out)
    assert message["reference"] == str(second)
    assert set(message["lineage"]) == {field.name for field in fields(Lineage)} - {"distributions"}
    assert message["promotions"][0]["stage"] == "champion"
    assert model_version.main(["show", str(second)]) == 0
    assert f"data_digest: {message['lineage']['data_digest']}" in capsys.readouterr().out
    assert model_version.main(["verify", str(second)]) == 0
    assert capsys.readouterr().out == f"verified {second}\n"
    assert model_version.main(["list", "--json"]) == 0
    assert [row["stages"] for row in json.loads(capsys.readouterr().out)] == [[], ["champion"]]


def test_an_artifact_folder_is_registered_and_a_version_copied(
    two_versions: tuple[Reference, Reference], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = two_versions[0]
    artifact = project.REGISTRY / reference.model / "1" / "artifact"
    capsys.readouterr()
    other = ["--registry", str(folder / "other")]
    assert model_version.main([*other, "register", str(artifact), reference.digest]) == 0
    assert capsys.readouterr().out == f"{reference}\n"
    assert model_version.main(["copy", str(reference), "local"]) == 0
    assert capsys.readouterr().out == f"{reference}\n"
    with pytest.raises(OperatorError, match=r"has no manifest\.json, so it is not an artifact"):
        model_version.main(["register", str(folder), reference.digest])


def test_training_does_not_replace_a_champion_promoted_meanwhile(
    two_versions: tuple[Reference, Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_versions
    third = fewer(2)
    monkeypatch.setattr(user_model, "dataset", lambda: (model_version.main(["rollback"]), third)[1])
    with pytest.raises(StalePromotion, match=f"is version {first.version}, not {second.version}"):
        training.main([])
    assert read_lock(project.LOCK) == first


@pytest.mark.parametrize("file", ["features", "data", "estimator"])
def test_a_mistake_in_the_model_is_reported_in_one_sentence_with_its_line(trained: Workspace, file: str) -> None:
    path = trained.root / "model" / f"{file}.py"
    path.write_text(path.read_text("utf-8") + "\n1 / 0\n", encoding="utf-8")
    line = len(path.read_text("utf-8").splitlines())
    assert trained.refusal("serving.offline.train") == (
        f"error: model/{file}.py, line {line}: ZeroDivisionError: division by zero. "
        "The traceback is in build/traceback.txt."
    )
    assert "ZeroDivisionError" in (trained.root / "build" / "traceback.txt").read_text("utf-8")
