from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from serving.artifacts import open_artifact
from serving.references import Reference, read_lock
from tests.support.server import ServerProcess
from tests.support.workspace import Workspace

MISSING = f"sha256={'0' * 64}"


@pytest.fixture
def trained(example: Workspace, folder: Path) -> Workspace:
    """Return a trained repo that a test may break."""
    shutil.copytree(example.root, folder / "repo", ignore=shutil.ignore_patterns("__pycache__"))
    return Workspace(folder / "repo")


@pytest.fixture
def reference(trained: Workspace) -> Reference:
    return read_lock(trained.root / "model.lock")


def failed(workspace: Workspace, module: str, *arguments: str) -> str:
    """Run a script that must fail; return the one sentence that it ends with."""
    done = workspace.run(module, *arguments)
    assert done.returncode == 1, done.stdout
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: ")
    return sentence


def printed(workspace: Workspace, module: str, *arguments: str) -> str:
    """Run a script that must succeed; return what it printed."""
    done = workspace.run(module, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_again_on_the_same_data_gives_the_same_version(trained: Workspace, reference: Reference) -> None:
    assert f"registered {reference}" in printed(trained, "scripts.train")
    assert read_lock(trained.root / "model.lock") == reference
    assert printed(trained, "scripts.model_version", "list").count("\n") == 1


def test_training_on_other_data_gives_the_next_version_and_both_stay(trained: Workspace, reference: Reference) -> None:
    code = trained.root / "model" / "train.py"
    code.write_text(code.read_text("utf-8").replace("SEED = 7", "SEED = 8"), "utf-8")
    printed(trained, "scripts.train")
    second = read_lock(trained.root / "model.lock")
    assert (second.version, second.model) == ("2", reference.model)
    assert second.digest != reference.digest
    first, last = printed(trained, "scripts.model_version", "list").splitlines()
    assert str(reference) in first
    assert last.endswith(f"{second}  <- model.lock")
    artifact = open_artifact(trained.root / "registry" / second.model / "2" / "artifact", second.digest)
    assert artifact.manifest.lineage.parameters["seed"] == 8


def test_an_export_that_answers_otherwise_is_not_registered(trained: Workspace, reference: Reference) -> None:
    code = trained.root / "model" / "predictor.py"
    code.write_text(
        code.read_text("utf-8").replace(
            "estimator.predict(matrix(columns))", "0.5 + estimator.predict(matrix(columns))"
        ),
        "utf-8",
    )
    assert "golden rows answered" in failed(trained, "scripts.train")
    assert read_lock(trained.root / "model.lock") == reference
    assert printed(trained, "scripts.model_version", "list").count("\n") == 1


def test_a_version_says_where_it_came_from(example: Workspace) -> None:
    reference = read_lock(example.root / "model.lock")
    manifest = open_artifact(
        example.root / "artifacts" / reference.digest.removeprefix("sha256="), reference.digest
    ).manifest
    assert manifest.model == reference.model
    assert manifest.lineage.data_digest.startswith("sha256=")
    assert {"numpy", "onnxruntime", "scikit-learn"} <= set(manifest.lineage.libraries)
    assert manifest.lineage.metrics
    assert manifest.lineage.parameters


def test_a_reference_is_resolved_to_its_pinned_form(trained: Workspace, reference: Reference) -> None:
    bare = f"local:{reference.model}/{reference.version}"
    assert printed(trained, "scripts.model_version", "resolve", bare) == f"{reference}\n"


def test_a_version_is_fetched_where_it_is_wanted(trained: Workspace, reference: Reference, folder: Path) -> None:
    target = folder / "elsewhere"
    for _ in range(2):
        printed(trained, "scripts.model_version", "fetch", str(reference), "--artifacts", str(target))
    (artifact,) = target.iterdir()
    assert open_artifact(artifact, reference.digest)


@pytest.mark.parametrize(
    ("command", "text", "words"),
    [
        ("resolve", "local:{model}/9", "no such version; it has 1."),
        ("resolve", "local:{model}@production", "the local registry has no stages"),
        ("resolve", "local:unknown/1", "run `make train`"),
        ("resolve", "nonsense", "can't be read; the form is scheme:model/version#sha256="),
        ("resolve", "s3:{model}/1", "model registry 's3' is not part of this repo"),
        ("fetch", "local:{model}/1", "is not pinned; write scheme:model/version#sha256="),
        ("fetch", "local:{model}/1#" + MISSING, "to serve that one write local:"),
    ],
)
def test_a_reference_that_can_not_be_met_is_told_in_one_sentence(
    trained: Workspace, reference: Reference, command: str, text: str, words: str
) -> None:
    assert words in failed(trained, "scripts.model_version", command, text.format(model=reference.model))


def test_a_version_that_was_changed_is_not_fetched(trained: Workspace, reference: Reference) -> None:
    kept = trained.root / "registry" / reference.model / "1" / "artifact" / "model.onnx"
    kept.write_bytes(kept.read_bytes()[:-1])
    shutil.rmtree(trained.root / "artifacts")
    assert "model.onnx: sha256 is" in failed(trained, "scripts.model_version", "fetch")
    assert not list((trained.root / "artifacts").iterdir())


def test_predict_shows_the_servers_answers_beside_those_of_training(
    example: Workspace, example_server: ServerProcess
) -> None:
    told = printed(example, "scripts.predict", "--target", example_server.target)
    reference = read_lock(example.root / "model.lock")
    assert f"answered by {reference.model} version 1, {reference.digest}" in told
    _, *rows, _ = (line.split() for line in told.splitlines())
    assert len(rows) > 1
    for _, answer, as_trained in rows:
        assert float(answer) == pytest.approx(float(as_trained), rel=1e-4)


def test_predict_says_in_one_sentence_that_no_server_runs(example: Workspace) -> None:
    # Port 1 is nobody's.
    sentence = failed(example, "scripts.predict", "--target", "127.0.0.1:1", "--timeout", "0.5")
    assert sentence.startswith("error: 127.0.0.1:1: ")
    assert sentence.endswith("is the server running? (`make run`)")


def test_predict_without_a_version_says_what_to_run(trained: Workspace) -> None:
    (trained.root / "model.lock").unlink()
    assert "run `make train`" in failed(trained, "scripts.predict")


def test_the_demo_serves_asks_and_stops(example: Workspace) -> None:
    assert "answered by" in printed(example, "scripts.demo")


def test_run_fetches_and_serves(trained: Workspace, reference: Reference) -> None:
    shutil.rmtree(trained.root / "artifacts")
    with ServerProcess(trained.root, module="scripts.run") as server:
        assert server.metrics()["serving_ready"] == 1
        assert server.stop() == 0
    assert f"serving {reference}" in server.log


def test_a_broken_service_file_is_told_in_one_sentence(trained: Workspace) -> None:
    (trained.root / "config" / "service.toml").write_text("[service]\nname = 1\n", "utf-8")
    assert "must have a table [service] with name, description and organization" in failed(trained, "scripts.train")
