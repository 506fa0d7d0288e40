from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.domain.artifacts import artifact_folder
from serving.domain.deadline import Deadline
from serving.domain.errors import NotReady, SettingsError
from serving.domain.references import Reference, write_lock
from serving.online.bootstrap import build
from serving.online.inference import NoModel, Service
from serving.online.settings import Settings
from serving.online.telemetry import Metrics
from tests.platform.support.artifacts import tiny

LONG = 60.0

Build = Callable[..., Any]


@pytest.fixture
async def start(folder: Path) -> AsyncIterator[Build]:
    """Build services from the files in the folder."""
    async with AsyncExitStack() as resources:

        async def started(metrics: Metrics | None = None, **settings: Any) -> Service:
            chosen = Settings(**{"model_lock": folder / "model.lock", "artifacts": folder / "artifacts", **settings})
            return await build(chosen, metrics or Metrics.create(), resources)

        yield started


def reason(service: Service) -> str:
    """Return the text that callers see."""
    assert isinstance(service, NoModel)
    with pytest.raises(NotReady) as refusal:
        _ = service.model
    text = str(refusal.value)
    assert text.isascii()
    assert text.isprintable()
    return text


async def test_the_model_of_the_lock_is_served(folder: Path, start: Build) -> None:
    reference = tiny().lay_out(folder)
    metrics = Metrics.create()
    service = await start(metrics)
    assert service.model.reference == reference
    assert service.model.lineage == tiny().lineage
    inputs = {"base": np.ones(2, np.float32), "value": np.ones(2, np.float32)}
    answer = await service.infer(inputs, [], Deadline(LONG))
    assert answer.outputs["total"].tolist() == [2.0, 2.0]
    labels = {"model": "tiny", "version": "1", "digest": reference.digest}
    assert metrics.registry.get_sample_value("serving_model_info", labels) == 1
    assert metrics.registry.get_sample_value("serving_model_seconds_count") == 1


async def test_the_batch_limit_of_the_settings_is_part_of_the_signature(folder: Path, start: Build) -> None:
    tiny().lay_out(folder)
    assert (await start(max_rows=7)).model.signature.max_rows == 7


async def test_without_a_lock_no_model_is_served(start: Build, caplog: pytest.LogCaptureFixture) -> None:
    service = await start()
    assert reason(service) == "no model is served: no version is chosen; the server's log says more."
    assert "model.lock: pins no model version yet; run `make train`." in caplog.text


async def test_without_the_artifact_no_model_is_served(
    folder: Path, start: Build, caplog: pytest.LogCaptureFixture
) -> None:
    reference = Reference.parse(f"local:tiny/1#sha256={'0' * 64}")
    write_lock(folder / "model.lock", reference)
    assert str(reference) in reason(await start())
    assert f"{reference}: is not in {folder / 'artifacts'}; fetch it with" in caplog.text


@pytest.mark.parametrize("name", ["golden.json", "manifest.json", "model.onnx"])
async def test_a_tampered_artifact_is_named_in_the_log_but_not_to_callers(
    folder: Path, start: Build, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    reference = tiny().lay_out(folder)
    file = artifact_folder(folder / "artifacts", reference.digest) / name
    file.write_bytes(file.read_bytes()[:-1])
    message = reason(await start())
    assert message == f"no model is served: {reference} can't be loaded; the server's log says why."
    assert str(folder) not in message
    assert str(file) in caplog.text
    assert "sha256" in caplog.text


async def test_an_artifact_of_another_model_is_not_served(
    folder: Path, start: Build, caplog: pytest.LogCaptureFixture
) -> None:
    reference = replace(tiny().lay_out(folder), model="other")
    write_lock(folder / "model.lock", reference)
    assert str(reference) in reason(await start())
    assert "is an artifact of the model 'tiny'; correct the reference." in caplog.text


async def test_a_model_that_no_longer_answers_as_in_training_is_not_served(
    folder: Path, start: Build, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny()
    reference = replace(model, golden=replace(model.golden, outputs={"total": [11.0, 23.0]})).lay_out(folder)
    assert str(reference) in reason(await start())
    assert "golden rows answered" in caplog.text


async def test_a_model_that_fails_its_golden_rows_is_not_served(
    folder: Path, start: Build, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny()
    inputs = {"base": [1.0, 2.0], "value": [1.0, 2.0, 3.0]}
    reference = replace(model, golden=replace(model.golden, inputs=inputs)).lay_out(folder)
    assert reason(await start()) == f"no model is served: {reference} can't be loaded; the server's log says why."
    assert "onnxruntime" in caplog.text


async def test_a_model_that_onnxruntime_refuses_is_not_served(
    folder: Path, start: Build, caplog: pytest.LogCaptureFixture
) -> None:
    reference = replace(tiny(), onnx=b"no model").lay_out(folder)
    assert str(reference) in reason(await start())
    assert "refuses its model.onnx" in caplog.text


async def test_an_unknown_feature_store_scheme_is_refused(start: Build) -> None:
    with pytest.raises(SettingsError, match="SERVING_FEATURE_STORE='oracle:x': this repo can open "):
        await start(feature_store="oracle:x")


async def test_the_served_reference_is_logged(folder: Path, start: Build, caplog: pytest.LogCaptureFixture) -> None:
    reference = tiny().lay_out(folder)
    with caplog.at_level(logging.INFO):
        await start()
    assert f"serving {reference}" in caplog.text
