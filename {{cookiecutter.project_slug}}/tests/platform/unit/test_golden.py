from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.domain.artifacts import Artifact
from serving.domain.errors import ArtifactError
from serving.domain.golden import replay
from serving.domain.tensors import Tensors
from tests.platform.support.artifacts import rich, tiny
from tests.platform.support.fakes import FakeRuntime
from tests.platform.support.services import answer_of

LONG = 60.0


@pytest.fixture
def artifact(folder: Path) -> Artifact:
    return tiny().opened(folder / "artifact")


async def test_a_model_that_answers_as_it_did_in_training_passes(folder: Path) -> None:
    for model in (tiny(), rich()):
        await replay(model.opened(folder / model.name), FakeRuntime(answer_of(model)), timeout=LONG)


@pytest.mark.parametrize("difference", [1e-5, -1e-5])
async def test_a_difference_within_the_tolerance_passes(artifact: Artifact, difference: float) -> None:
    runtime = FakeRuntime(lambda inputs: {"total": (inputs["base"] + inputs["value"]) * np.float32(1 + difference)})
    await replay(artifact, runtime, timeout=LONG)


@pytest.mark.parametrize(
    "answer",
    [
        np.array([11.0, 22.1], np.float32),
        np.array([22.0, 11.0], np.float32),
        np.array([11.0, np.nan], np.float32),
        np.array([11.0], np.float32),
        np.array([[11.0], [22.0]], np.float32),
    ],
)
async def test_a_model_with_different_answers_is_refused(artifact: Artifact, answer: Tensors) -> None:
    with pytest.raises(ArtifactError, match=f"artifact {artifact.digest}: golden rows answered .* for output total"):
        await replay(artifact, FakeRuntime(lambda _: {"total": answer}), timeout=LONG)  # type: ignore[dict-item]


@pytest.mark.parametrize("name", ["int64_out", "bool_out", "bytes_out", "words_out"])
async def test_values_that_are_not_floats_must_be_equal(folder: Path, name: str) -> None:
    model = rich()
    right = answer_of(model)
    runtime = FakeRuntime(lambda inputs: right(inputs) | {name: right(inputs)[name][::-1]})  # type: ignore[operator]
    with pytest.raises(ArtifactError, match=f"for output {name}"):
        await replay(model.opened(folder / "artifact"), runtime, timeout=LONG)


async def test_an_artifact_states_its_own_tolerance(folder: Path) -> None:
    model = tiny()
    generous = replace(model, golden=replace(model.golden, rtol=0.5)).opened(folder / "artifact")
    await replay(generous, FakeRuntime(lambda inputs: {"total": inputs["value"]}), timeout=LONG)


async def test_an_answer_without_a_declared_output_is_refused(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match="total"):
        await replay(artifact, FakeRuntime(lambda _: {}), timeout=LONG)
