from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.domain.artifacts import Artifact, artifact_folder, open_artifact
from serving.domain.errors import OperatorError
from serving.domain.references import Reference, read_lock
from serving_client import Prediction
from tests.platform.support.artifacts import rich, tiny
from tests.platform.support.server import ServerProcess
from tests.platform.support.workspace import Workspace
from tools import gateway, predict
from tools.gateway import Gateway
from tools.predict import AnswersDiffer, check_answers

OTHER = f"sha256={'0' * 64}"


def test_predict_shows_the_servers_answers_beside_those_of_training(
    trained: Workspace, example_server: ServerProcess
) -> None:
    shutil.rmtree(trained.root / "artifacts")  # it fetches what it needs
    printed = trained.printed("tools.predict", "--target", example_server.target)
    reference = read_lock(trained.root / "model.lock")
    assert f"answered by {reference.model} version 1, {reference.digest}" in printed
    artifact = open_artifact(artifact_folder(trained.root / "artifacts", reference.digest), reference.digest)
    shown = [line.split()[:2] for line in printed.splitlines()[:-1]]
    for spec in artifact.manifest.outputs:
        assert shown.pop(0) == ["row", spec.name]
        for entity in artifact.golden.entities:
            assert shown.pop(0)[0] == entity
    assert shown == []


def test_predict_reports_in_one_sentence_that_no_server_runs(example: Workspace) -> None:
    # Nothing listens on port 1.
    assert example.refusal("tools.predict", "--target", "127.0.0.1:1", "--timeout", "0.5") == (
        "error: 127.0.0.1:1: no server answers there; `make run` starts one, `make up` starts one in containers."
    )


def test_predict_without_a_version_says_what_to_run(trained: Workspace) -> None:
    (trained.root / "model.lock").unlink()
    assert "run `make train`" in trained.refusal("tools.predict")


@pytest.fixture
def served(folder: Path) -> Iterator[tuple[str, Reference, Artifact]]:
    """Serve the tiny model; give the address, and what is served there."""
    reference = tiny().lay_out(folder)
    artifact = open_artifact(artifact_folder(folder / "artifacts", reference.digest), reference.digest)
    with ServerProcess(folder) as server:
        yield server.target, reference, artifact


def refusal(kind: type[OperatorError], ask: Callable[[], object]) -> str:
    with pytest.raises(kind) as refused:
        ask()
    return str(refused.value)


def test_a_server_with_another_version_is_reported_with_both(served: tuple[str, Reference, Artifact]) -> None:
    target, reference, artifact = served
    wanted = replace(reference, version="2", digest=OTHER)
    message = refusal(OperatorError, lambda: predict.ask(target, wanted, artifact, timeout=10))
    assert message == (
        f"{target}: serves {reference}, but {wanted} is pinned here; "
        "`make deploy` updates the containers, a new `make run` a server on this machine."
    )


def test_a_server_of_another_model_is_reported_in_its_own_words(served: tuple[str, Reference, Artifact]) -> None:
    target, reference, artifact = served
    message = refusal(OperatorError, lambda: predict.ask(target, replace(reference, model="x"), artifact, timeout=10))
    assert message == f"{target}: model 'x' is not served here; this server has tiny."


def test_answers_that_differ_from_training_are_reported(
    served: tuple[str, Reference, Artifact], capsys: pytest.CaptureFixture[str]
) -> None:
    target, reference, artifact = served
    trained = replace(artifact, golden=replace(artifact.golden, outputs={"total": [11.0, 23.0]}))
    message = refusal(AnswersDiffer, lambda: predict.ask(target, reference, trained, timeout=10))
    assert message == f"{target}: 1 of 2 answers differ from those of training, the first for b."
    assert f"answered by tiny version 1, {reference.digest}" in capsys.readouterr().out


def test_a_multidimensional_answer_is_printed_on_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = rich().opened(folder / "artifact")
    predict.show(Prediction(artifact.golden_outputs(), "rich", "1", artifact.digest, "request"), artifact)
    entities, outputs = artifact.golden.entities, artifact.manifest.outputs
    first = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert first == ["row", *entities] * len(outputs) + ["answered"]


def test_a_server_without_a_model_is_not_reported_as_no_server(folder: Path) -> None:
    reference = tiny().lay_out(folder)
    place = artifact_folder(folder / "artifacts", reference.digest)
    artifact = open_artifact(place, reference.digest)
    shutil.rmtree(place)
    with ServerProcess(folder) as server:
        target = server.target
        message = refusal(OperatorError, lambda: predict.ask(target, reference, artifact, timeout=1))
    assert (
        message
        == f"{target}: the server is up, but says NOT_SERVING: it has no model to answer with; its log says why."
    )


@pytest.mark.parametrize(
    ("flags", "looked_up", "words"),
    [
        (
            {"defaulted": {"base": (0,)}},
            ["base"],
            "; the feature store has no value of base: fill it with `make features`",
        ),
        (
            {"last_known": {"base": (0,)}},
            ["base"],
            "; the feature store has no value of base: fill it with `make features`",
        ),
        ({}, ["base"], "; the feature store has other values of base than the training data had"),
        ({}, [], ""),
    ],
)
def test_answers_that_differ_are_reported_with_the_likely_cause(
    folder: Path, flags: dict[str, dict[str, tuple[int, ...]]], looked_up: list[str], words: str
) -> None:
    artifact = tiny().opened(folder / "artifact")
    outputs = {"total": np.array([110.0, 22.0], np.float32)}
    prediction = Prediction(outputs, "tiny", "1", artifact.digest, "request", **flags)
    message = refusal(AnswersDiffer, lambda: check_answers("here:1", prediction, artifact, looked_up=looked_up))
    assert message == f"here:1: 1 of 2 answers differ from those of training, the first for a{words}."
    alike = replace(prediction, outputs={"total": np.array([11.0, 22.0], np.float32)})
    check_answers("here:1", alike, artifact, looked_up=looked_up)


@pytest.mark.parametrize(
    ("named", "published", "asked"),
    [
        ("elsewhere:9001", Gateway("127.0.0.1:9001", ""), "elsewhere:9001"),
        ("", Gateway("127.0.0.1:9001", "127.0.0.1:9002"), "127.0.0.1:9001"),
        ("", Gateway("", ""), "localhost:8001"),
        ("", None, "localhost:8001"),
    ],
)
def test_predict_asks_the_containers_unless_a_target_is_named(
    named: str, published: Gateway | None, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVING_TARGET", named)
    monkeypatch.setattr(gateway, "find", lambda: published)
    assert predict.default_target() == asked
