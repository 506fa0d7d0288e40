"""The server's composition root: turns settings into adapters and a service.

It opens an artifact by digest and never a registry: no registry client or token is in this process.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from serving.adapters.runtime import load_runtime
from serving.domain.artifacts import Artifact, artifact_folder, open_artifact
from serving.domain.errors import (
    ArtifactError,
    DeadlineExceeded,
    FeaturesOutdated,
    FeatureStoreUnavailable,
    ModelFailed,
    NotReady,
    UnresolvedReference,
    quoted,
)
from serving.domain.golden import replay
from serving.domain.ports import FeatureStore, ModelRuntime
from serving.domain.references import Reference
from serving.domain.tensors import Signature, Tensors, TensorSpec
from serving.online.batching import nullcontext_of, worthwhile
from serving.online.budget import Budget, before_the_model_ran, work_of_a_row
from serving.online.inference import InferenceService, NoModel, ServedModel, Service
from serving.online.model_queue import ModelQueue
from serving.online.prediction_log import PredictionLog
from serving.online.settings import Batching, Settings
from serving.online.telemetry import Metrics
from serving.online.tracing import Tracing
from serving.online.value_counts import ValueCounts
from serving.prediction.enrichment import Enricher
from serving.prediction.log_files import LogFolder, LoggedModel
from serving.prediction.stores import open_store

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_START_TIMEOUT_S = 60.0
_PAUSE_S = 1.0
_EXAMPLES = 2
_NOBODY = b"warm-up"  # not empty: some stores skip connecting for an empty key


async def build(
    settings: Settings, metrics: Metrics, resources: AsyncExitStack, tracing: Tracing | None = None
) -> Service:
    """Return the service that the settings describe; `resources` closes what it opened, in reverse.

    Without a verified artifact, the service answers every call with the reason.

    :raises SettingsError: the settings can't be met at all
    """
    store = open_store(settings.store_url())
    resources.push_async_callback(store.close)
    try:
        reference = settings.reference()
    except UnresolvedReference as error:
        log.error("no model is served: %s", error)
        return NoModel("no model is served: no version is chosen; the server's log says more.")
    try:
        return await _load(reference, settings, metrics, store, resources, tracing)
    except (ArtifactError, ModelFailed, DeadlineExceeded) as error:
        # The log has the details; callers see the reference only.
        log.error("no model is served: %s: %s", reference, error)
        return NoModel(f"no model is served: {reference} can't be loaded; the server's log says why.")


async def _load(
    reference: Reference,
    settings: Settings,
    metrics: Metrics,
    store: FeatureStore,
    resources: AsyncExitStack,
    tracing: Tracing | None,
) -> Service:
    folder = artifact_folder(settings.artifacts, reference.digest)
    if not _there(folder):
        raise ArtifactError(f"is not in {settings.artifacts}; fetch it with `make versions ARGS=fetch`.")
    artifact = open_artifact(folder, reference.digest)
    manifest = artifact.manifest
    if manifest.model != reference.model:
        raise ArtifactError(f"is an artifact of the model {quoted(manifest.model)}; correct the reference.")
    # In a thread: a large model takes long to load, and a signal must be heard meanwhile.
    runtime = await asyncio.to_thread(load_runtime, artifact, threads=settings.model_threads)
    resources.push_async_callback(runtime.close)
    await _answered(artifact, runtime)
    supplied = store.supplies(manifest.features)
    signature = Signature(manifest.features.request_inputs(supplied), manifest.outputs, settings.max_rows)
    budget = await _budget(artifact, runtime, signature.inputs)
    max_rows = budget.choose_rows(settings.max_rows, explicit="max_rows" in settings.model_fields_set)
    signature = replace(signature, max_rows=max_rows)
    await _within_limit(runtime.warm_up(artifact.golden_inputs(), max_rows))
    batching = settings.batching is Batching.ON
    if settings.batching is Batching.AUTO:
        call = functools.partial(runtime.predict, timeout=_START_TIMEOUT_S)
        batching = await _within_limit(worthwhile(call, artifact.golden_inputs(), max_rows))
    enricher = Enricher(
        store if tracing is None else tracing.store(store),
        manifest.features,
        metrics,
        timeout=settings.feature_timeout,
        unknown_entity=settings.unknown_entity,
        store_unavailable=settings.store_unavailable,
        last_known_bytes=budget.last_known,
    )
    if supplied:  # connect before the first call
        try:
            await store.read([_NOBODY], supplied, timeout=_START_TIMEOUT_S)
        except (FeatureStoreUnavailable, FeaturesOutdated) as error:
            log.warning("the feature store can't be used yet: %s", error)
    values = ValueCounts(reference, manifest.features.model_inputs, manifest.outputs, artifact.lineage.distributions)
    metrics.announce(reference, supplied, values)
    log.info("serving %s", reference, extra={"max_rows": max_rows, "batching": batching, "budget": asdict(budget)})
    model = ServedModel(reference, manifest, signature, artifact.lineage, _examples(artifact, signature.inputs))
    observe_batch = metrics.batch_calls.observe if batching else None
    queue = ModelQueue(
        runtime if tracing is None else tracing.runtime(runtime, reference), metrics.model_seconds.observe
    )
    join_batch = nullcontext_of if tracing is None else tracing.batch
    predictions = _prediction_log(settings, model, metrics, budget, keyed=bool(supplied))
    if predictions is not None:
        resources.push_async_callback(asyncio.to_thread, predictions.close)
    return InferenceService(model, enricher, queue, budget, observe_batch, values.count, join_batch, predictions)


def _prediction_log(
    settings: Settings, model: ServedModel, metrics: Metrics, budget: Budget, *, keyed: bool
) -> PredictionLog | None:
    if settings.prediction_log is None:
        return None
    folder = LogFolder(settings.prediction_log, settings.prediction_log_mb << 20, settings.prediction_log_days)
    features = model.manifest.features
    inputs = tuple(feature.spec for feature in features.model_inputs)
    return PredictionLog(
        folder,
        LoggedModel(model.reference, inputs, model.manifest.outputs),
        metrics,
        entity=features.entity.name if keyed else "",
        share=settings.prediction_log_share,
        queue_bytes=budget.prediction_log,
    )


def _examples(artifact: Artifact, inputs: Sequence[TensorSpec]) -> Tensors:
    """Return a few golden rows as inputs of a request, which may have a key in place of values."""
    keys = np.array([key.encode() for key in artifact.golden.entities], object)
    rows = {artifact.manifest.features.entity.name: keys, **artifact.golden_inputs()}
    return {spec.name: rows[spec.name][:_EXAMPLES] for spec in inputs}


async def _answered(artifact: Artifact, runtime: ModelRuntime) -> None:
    """Replay the golden rows; a model in another process may come later than this server, so go on asking."""
    while True:
        try:
            await _within_limit(replay(artifact, runtime, timeout=_START_TIMEOUT_S))
            return
        except NotReady as error:
            log.warning("no model is served yet: %s", error)
            await asyncio.sleep(_PAUSE_S)


def _there(folder: Path) -> bool:
    return os.path.lexists(folder)  # Path.exists raises where a folder above can't be entered


async def _budget(artifact: Artifact, runtime: ModelRuntime, inputs: Sequence[TensorSpec]) -> Budget:
    """Measure what the process and the model need, and share out the rest."""
    budget = before_the_model_ran(inputs)
    call = functools.partial(runtime.predict, timeout=_START_TIMEOUT_S)
    row_work = await _within_limit(work_of_a_row(call, artifact.golden_inputs(), budget.rows))
    return replace(budget, row_work=row_work, concurrency=runtime.concurrency)


async def _within_limit(step: Coroutine[Any, Any, _T]) -> _T:
    """Wait for a step of the start, but not for the end of one that can't be ended."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.wait({task}, timeout=_START_TIMEOUT_S + _PAUSE_S)
        if task.done():
            return task.result()
    finally:
        task.cancel()
    raise DeadlineExceeded(f"the model did not answer within {_START_TIMEOUT_S:.0f} s and can't be ended.")
