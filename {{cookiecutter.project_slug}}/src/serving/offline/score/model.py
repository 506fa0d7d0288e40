"""The composition root of batch scoring: the pinned model, the features and the checks, as the server has them."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from serving.adapters.runtime import load_runtime
from serving.domain.artifacts import Artifact, artifact_folder, open_artifact
from serving.domain.deadline import Deadline
from serving.domain.errors import ArtifactError, NotReady, quoted
from serving.domain.features import Feature
from serving.domain.golden import replay
from serving.domain.no_store import NoStore
from serving.domain.ports import FeatureStore, ModelRuntime
from serving.domain.references import Reference
from serving.domain.tensors import Signature, Tensors
from serving.offline import user_model
from serving.offline.score.counts import Staleness
from serving.offline.score.layout import Layout, Source
from serving.offline.score.moments import HistoryStore
from serving.offline.score.scorer import Scorer
from serving.prediction.enrichment import Enricher
from serving.prediction.pipeline import Pipeline
from serving.prediction.settings import PredictionSettings
from serving.prediction.stores import open_store

_START_TIMEOUT_S, _PAUSE_S = 60.0, 1.0
_STORE_TIMEOUT_S = 30.0


class TimedModel:
    """Call a runtime, one batch at a time."""

    def __init__(self, runtime: ModelRuntime) -> None:
        self._runtime = runtime

    async def predict(self, inputs: Tensors, *, timeout: float) -> tuple[Tensors, float]:
        """Return the model's answer, and how many seconds it took."""
        began = time.monotonic()
        return await self._runtime.predict(inputs, timeout=timeout), time.monotonic() - began


@dataclass(frozen=True)
class Opened:
    """Hold the verified model with its runtime, and the feature store."""

    reference: Reference
    artifact: Artifact
    runtime: ModelRuntime
    store: FeatureStore

    def supplied(self, date: str) -> tuple[Feature, ...]:
        """Return the features that the input need not have: with a column of dates, model/data.py knows them."""
        features = self.artifact.manifest.features
        return features.static if date else self.store.supplies(features)


async def open_model(settings: PredictionSettings, threads: int, resources: AsyncExitStack) -> Opened:
    """Open the pinned version and compare its golden rows, as a server does before it is ready.

    :raises ArtifactError: the version is not there, was changed, or answers otherwise
    """
    store = open_store(settings.store_url())
    resources.push_async_callback(store.close)
    reference = settings.reference()
    artifact = _verified(settings, reference)
    runtime = load_runtime(artifact, threads=threads)
    resources.push_async_callback(runtime.close)
    await _answered(artifact, runtime)
    return Opened(reference, artifact, runtime, store)


async def _answered(artifact: Artifact, runtime: ModelRuntime) -> None:
    """Replay the golden rows; a model in another process may need some time to start."""
    deadline = Deadline(_START_TIMEOUT_S)
    while True:
        try:
            await replay(artifact, runtime, timeout=_START_TIMEOUT_S)
            return
        except NotReady:
            if deadline.passed():
                raise
            await asyncio.sleep(_PAUSE_S)


def _verified(settings: PredictionSettings, reference: Reference) -> Artifact:
    folder = artifact_folder(settings.artifacts, reference.digest)
    if not os.path.lexists(folder):
        raise ArtifactError(f"{reference}: is not in {settings.artifacts}; fetch it with `make versions ARGS=fetch`.")
    artifact = open_artifact(folder, reference.digest)
    if artifact.manifest.model != reference.model:
        raise ArtifactError(
            f"{reference}: is an artifact of the model {quoted(artifact.manifest.model)}; correct the reference."
        )
    return artifact


def scorer(opened: Opened, layout: Layout, settings: PredictionSettings, *, rows: int, timeout: float) -> Scorer:
    """Return what scores chunks of at most `rows` rows."""
    manifest = opened.artifact.manifest
    history = HistoryStore(user_model.history()) if layout.source is Source.HISTORY else None
    if history is not None:
        history.supplies(manifest.features)
    staleness = Staleness()
    enricher = Enricher(
        history or (opened.store if layout.source is Source.STORE else NoStore()),
        manifest.features,
        staleness,
        timeout=_STORE_TIMEOUT_S,
        unknown_entity=settings.unknown_entity,
        store_unavailable=settings.store_unavailable,
    )
    signature = Signature(layout.inputs, manifest.outputs, rows)
    pipeline = Pipeline(opened.reference, signature, enricher, TimedModel(opened.runtime))
    return Scorer(pipeline, layout, staleness, timeout, history)
