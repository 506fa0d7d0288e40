from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.adapters.feature_store import READERS
from serving.domain.artifacts import Artifact, artifact_folder
from serving.domain.deadline import Deadline
from serving.domain.errors import FeatureStoreUnavailable, NotReady, SettingsError, UnknownEntity
from serving.domain.features import Feature
from serving.domain.ports import Column
from serving.domain.references import Reference, write_lock
from serving.domain.tensors import Tensors
from serving.online import bootstrap, memory
from serving.online.bootstrap import build
from serving.online.inference import NoModel, Service
from serving.online.settings import Settings
from serving.online.telemetry import Metrics
from tests.platform.support.artifacts import tiny
from tests.platform.support.fakes import FakeRuntime, FakeStore
from tests.platform.support.services import answer_of

LONG = 60.0
MB = 1 << 20

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
    assert service.model.manifest.features == tiny().manifest.features
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
    with pytest.raises(SettingsError) as refusal:
        await start(feature_store="oracle:x:y")
    known = ", ".join(f"{scheme}:" for scheme in READERS)
    assert str(refusal.value) == f"SERVING_FEATURE_STORE='oracle:x:y': this repo can open {known}."


async def test_the_served_reference_is_logged(folder: Path, start: Build, caplog: pytest.LogCaptureFixture) -> None:
    reference = tiny().lay_out(folder)
    with caplog.at_level(logging.INFO):
        service = await start()
    (record,) = caplog.records
    assert record.getMessage() == f"serving {reference}"
    assert (record.max_rows, record.budget) == (1024, asdict(service.budget))  # type: ignore[attr-defined]


class Store(FakeStore):
    """Record reads, and when it is closed."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.asked: list[tuple[list[bytes], list[str], float]] = []

    async def read(
        self, entities: Sequence[bytes], features: Sequence[Feature], *, timeout: float
    ) -> Mapping[str, Column]:
        self.asked.append((list(entities), [feature.name for feature in features], timeout))
        return await super().read(entities, features, timeout=timeout)

    async def close(self) -> None:
        self.events.append("store closed")


class Runtime(FakeRuntime):
    """Record how it is loaded, asked and warmed up, and when it is closed."""

    def __init__(self, events: list[str]) -> None:
        super().__init__(answer_of(tiny()))
        self.concurrency = 3
        self.events = events
        self.loaded: list[tuple[str, int]] = []
        self.warmed: list[tuple[dict[str, list[float]], int]] = []

    async def warm_up(self, inputs: Tensors, max_rows: int) -> None:
        self.warmed.append(({name: tensor.tolist() for name, tensor in inputs.items()}, max_rows))

    async def close(self) -> None:
        self.events.append("runtime closed")


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def store(events: list[str], monkeypatch: pytest.MonkeyPatch) -> Store:
    """Open this store for the scheme `fake`."""
    made = Store(events)
    monkeypatch.setitem(READERS, "fake", lambda _url: made)
    return made


@pytest.fixture
def runtime(events: list[str], monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Load this runtime for every model."""
    made = Runtime(events)

    def load(artifact: Artifact, *, threads: int) -> Runtime:
        made.loaded.append((artifact.manifest.model, threads))
        return made

    monkeypatch.setattr(bootstrap, "load_runtime", load)
    return made


@pytest.fixture
async def start_static(folder: Path, start: Build) -> Build:
    """Build services whose model has a static feature, which the store `fake` supplies."""
    tiny(static=True).lay_out(folder)

    async def started(metrics: Metrics | None = None, **settings: Any) -> Service:
        service: Service = await start(metrics, feature_store="fake://host:1/0", **settings)
        return service

    return started


ASKED = {"key": np.array([b"a"], object), "value": np.ones(1, np.float32)}


@pytest.mark.parametrize("served", [True, False])
async def test_what_a_start_opened_is_closed_in_reverse_even_if_no_model_is_served(
    folder: Path, store: Store, runtime: Runtime, served: bool
) -> None:
    tiny(static=True).lay_out(folder)
    if not served:
        runtime.answer = dict  # not as in training
    chosen = Settings(model_lock=folder / "model.lock", artifacts=folder / "artifacts", feature_store="fake:")
    async with AsyncExitStack() as resources:
        service = await build(chosen, Metrics.create(), resources)
        assert isinstance(service, NoModel) is not served
        assert store.events == []
    assert store.events == ["runtime closed", "store closed"]


async def test_a_model_gets_its_threads_and_is_warmed_up_before_it_is_served(
    folder: Path, start: Build, runtime: Runtime
) -> None:
    tiny().lay_out(folder)
    service = await start(model_threads=5, max_rows=7)
    assert runtime.loaded == [("tiny", 5)]
    assert runtime.warmed == [({"base": [1.0, 2.0], "value": [10.0, 20.0]}, 7)]
    assert service.budget.concurrency == 3


async def test_the_store_is_connected_before_the_first_call(
    start_static: Build, store: Store, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    await start_static()
    assert store.asked == [([b"warm-up"], ["base"], 60.0)]
    assert caplog.text == ""


async def test_a_store_that_is_unavailable_at_the_start_is_reported_and_read_later(
    start_static: Build, store: Store, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    store.unavailable = True
    service = await start_static()
    assert caplog.messages == ["the feature store can't be used yet: the feature store can't be read."]
    with pytest.raises(FeatureStoreUnavailable):
        await service.infer(ASKED, [], Deadline(LONG))
    store.unavailable = False
    assert (await service.infer(ASKED, [], Deadline(LONG))).outputs["total"].tolist() == [101.0]


async def test_reads_have_the_settings_timeout_and_are_counted(
    start_static: Build, store: Store, runtime: Runtime
) -> None:
    metrics = Metrics.create()
    service = await start_static(metrics, feature_timeout=0.25)
    await service.infer(ASKED, [], Deadline(LONG))
    assert store.asked[-1] == ([b"a"], ["base"], 0.25)
    assert metrics.registry.get_sample_value("serving_feature_store_seconds_count") == 1
    assert metrics.registry.get_sample_value("serving_feature_defaults_total", {"feature": "base"}) == 1


async def test_the_settings_decide_what_stands_in_for_a_value(
    start_static: Build, store: Store, runtime: Runtime
) -> None:
    service = await start_static(unknown_entity="refuse", store_unavailable="default")
    with pytest.raises(UnknownEntity):
        await service.infer(ASKED, [], Deadline(LONG))
    store.unavailable = True
    assert (await service.infer(ASKED, [], Deadline(LONG))).outputs["total"].tolist() == [101.0]


async def test_a_model_in_another_process_is_waited_for(
    folder: Path, start: Build, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bootstrap, "_PAUSE_S", 0.0)
    tiny().lay_out(folder)
    ready = runtime.predict

    async def predict(inputs: Tensors, *, timeout: float) -> Tensors:
        if len(caplog.messages) < 2:
            raise NotReady("the other server is not there.")
        return await ready(inputs, timeout=timeout)

    monkeypatch.setattr(runtime, "predict", predict)
    assert (await start()).model.reference.model == "tiny"
    assert caplog.messages == ["no model is served yet: the other server is not there."] * 2


async def test_a_model_that_never_answers_its_golden_rows_is_given_up(
    folder: Path, start: Build, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bootstrap, "_START_TIMEOUT_S", 0.0)
    monkeypatch.setattr(bootstrap, "_PAUSE_S", 0.01)

    async def never(inputs: Tensors, *, timeout: float) -> Tensors:
        await asyncio.Event().wait()
        return inputs

    monkeypatch.setattr(runtime, "predict", never)
    reference = tiny().lay_out(folder)
    assert str(reference) in reason(await start())
    assert caplog.messages == [
        f"no model is served: {reference}: the model did not answer within 0 s and can't be ended."
    ]


@pytest.fixture
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave 10,000 bytes to share: 1,000 for requests."""
    monkeypatch.setattr(memory, "limit", lambda: 100 * MB)
    monkeypatch.setattr(memory, "resident", lambda: 90 * MB - 10_000)
    monkeypatch.setattr(memory, "reset_peak", lambda: False)


@pytest.mark.usefixtures("_little_memory")
async def test_a_batch_is_as_large_as_the_memory_allows(folder: Path, start: Build, runtime: Runtime) -> None:
    tiny().lay_out(folder)
    service = await start()
    assert service.model.signature.max_rows == 125  # of 8 bytes
    assert runtime.warmed[-1][1] == 125


@pytest.mark.usefixtures("_little_memory")
async def test_a_batch_that_was_asked_for_and_does_not_fit_stops_the_start(
    folder: Path, start: Build, runtime: Runtime
) -> None:
    tiny().lay_out(folder)
    with pytest.raises(SettingsError, match="SERVING_MAX_ROWS=126: .* set at most 125"):
        await start(max_rows=126)
    assert (await start(max_rows=125)).model.signature.max_rows == 125


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much a process occupies")
async def test_the_models_work_counts_in_the_budget(folder: Path, start: Build, runtime: Runtime) -> None:
    tiny().lay_out(folder)
    answer = runtime.answer

    def hungry(inputs: Tensors) -> Tensors:
        held = np.ones((len(inputs["base"]), 8 * MB), np.uint8)
        return answer(inputs) if held.any() else {}

    runtime.answer = hungry
    budget = (await start()).budget
    assert 7 * MB <= budget.row_work <= 12 * MB
    assert budget.concurrency == 3
