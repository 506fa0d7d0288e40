"""The real service with fakes: no file, no ONNX, no socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from serving.domain.features import Feature, Missing
from serving.domain.ports import FeatureStore, ModelRuntime
from serving.domain.references import Reference
from serving.domain.tensors import Signature, Tensors
from serving.online.budget import Budget
from serving.online.inference import InferenceService, ServedModel
from serving.online.model_queue import ModelQueue
from serving.prediction.enrichment import Enricher
from serving.prediction.fallback import Fallback
from tests.platform.support.artifacts import Model
from tests.platform.support.fakes import FakeRuntime, FakeStore

DIGEST = f"sha256={'ab' * 32}"
MAX_ROWS = 1024
AMPLE = 1 << 40


@dataclass
class Observed:
    """Record the metrics that observers receive."""

    reads: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    defaults: list[tuple[str, int]] = field(default_factory=list)
    last_known: list[tuple[str, int]] = field(default_factory=list)
    ages: list[tuple[str, list[float]]] = field(default_factory=list)
    predictions: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def store_read(self, seconds: float) -> None:
        self.reads.append(seconds)

    def store_failed(self, reason: str) -> None:
        self.failures.append(reason)

    def stood_in(self, feature: Feature, what: Missing, rows: int) -> None:
        (self.last_known if what is Missing.LAST_KNOWN else self.defaults).append((feature.name, rows))

    def served(self, feature: Feature, ages: npt.NDArray[np.float64]) -> None:
        self.ages.append((feature.name, ages.tolist()))


def fake_service(
    model: Model,
    *,
    store: FeatureStore | None = None,
    runtime: ModelRuntime | None = None,
    unknown: Fallback = Fallback.DEFAULT,
    unavailable: Fallback = Fallback.REFUSE,
    feature_timeout: float = 60.0,
    max_rows: int = MAX_ROWS,
    observed: Observed | None = None,
    batching: bool = False,
) -> InferenceService:
    """Serve a model's signature with fakes in place of store and runtime."""
    store = store or FakeStore()
    seen = observed or Observed()
    features = model.manifest.features
    signature = Signature(features.request_inputs(store.supplies(features)), model.manifest.outputs, max_rows)
    enricher = Enricher(
        store, features, seen, timeout=feature_timeout, unknown_entity=unknown, store_unavailable=unavailable
    )
    served = ServedModel(Reference("local", model.name, "1", DIGEST), model.manifest, signature, model.lineage)
    runtime = runtime or FakeRuntime(answer_of(model))
    budget = Budget(AMPLE, occupied=0, concurrency=runtime.concurrency)
    queue = ModelQueue(runtime, seen.predictions.append)
    return InferenceService(served, enricher, queue, budget, seen.batches.append if batching else None)


def answer_of(model: Model) -> Callable[[Tensors], Tensors]:
    """Compute in NumPy what the ONNX models of `artifacts.py` compute."""

    def add(inputs: Tensors) -> Tensors:
        return {"total": inputs["base"] + inputs["value"]}

    def echo(inputs: Tensors) -> Tensors:
        return {f"{name}_out": tensor for name, tensor in inputs.items()}

    return echo if model.name == "rich" else add
