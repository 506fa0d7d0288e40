"""The use case: check, enrich, predict, check; the same for every transport, store and runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Context
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from serving.domain.artifacts import Manifest
from serving.domain.deadline import Deadline
from serving.domain.errors import NotFound, NotReady, quoted
from serving.domain.lineage import Lineage
from serving.domain.references import Reference
from serving.domain.tensors import Signature, Tensors
from serving.online.batching import Batcher, nullcontext_of
from serving.online.budget import Budget
from serving.online.model_queue import ModelQueue
from serving.online.prediction_log import PredictionLog
from serving.prediction.enrichment import Enricher
from serving.prediction.pipeline import Observe, Pipeline, Run

_TO_REFUSE = 64 << 20


@dataclass(frozen=True)
class ServedModel:
    """Describe the served model: reference, signature and lineage."""

    reference: Reference
    manifest: Manifest
    signature: Signature
    lineage: Lineage = field(default_factory=Lineage)
    examples: Tensors = field(default_factory=dict)
    """A few golden rows as inputs of a request."""

    def check_named(self, name: str, version: str) -> None:
        """Refuse a request for another model or version.

        :raises NotFound: another one is served
        """
        if name != self.reference.model:
            raise NotFound(f"model {quoted(name)} is not served here; this server has {self.reference.model}.")
        if version and version != self.reference.version:
            raise NotFound(
                f"model version {quoted(version)} is not served here; this server has version {self.reference.version}."
            )


@dataclass(frozen=True)
class Inference:
    """Hold an answer: the requested outputs, the model, and the rows that used a fallback."""

    outputs: Tensors
    model: ServedModel
    defaulted: Mapping[str, Sequence[int]]
    last_known: Mapping[str, Sequence[int]] = field(default_factory=dict)
    model_seconds: float = 0.0
    """How long the model took, in seconds."""


class Service(Protocol):
    """Serve one model, or explain why there is none."""

    @property
    def model(self) -> ServedModel:
        """The model served.

        :raises NotReady: there is none
        """

    @property
    def budget(self) -> Budget:
        """How the memory is shared out, and how many calls the model works on at once."""

    async def infer(self, inputs: Tensors, outputs: Sequence[str], deadline: Deadline) -> Inference:
        """Return the model's answer for one batch."""

    def longest(self) -> float:
        """Return for how many seconds the oldest of the model's running calls has run; 0 if none runs."""


@dataclass(frozen=True)
class InferenceService:
    """Serve a loaded model."""

    model: ServedModel
    enricher: Enricher
    queue: ModelQueue
    budget: Budget
    observe_batch: Callable[[int], None] | None = None
    """Receives the number of calls in each batch; None turns batching off."""
    observe_values: Observe | None = None
    join_batch: Callable[[Sequence[Context]], AbstractContextManager[None]] = nullcontext_of
    """Surrounds the work for several calls, whose contexts it gets."""
    log: PredictionLog | None = None
    """Receives a share of the calls and their answers."""

    async def infer(self, inputs: Tensors, outputs: Sequence[str], deadline: Deadline) -> Inference:
        """Return the model's answer for one call."""
        signature = self.model.signature
        wanted = signature.choose_outputs(outputs)
        rows = signature.check_inputs(inputs)
        answer = await self._answer(inputs, rows, deadline)
        chosen = {spec.name: answer.outputs[spec.name] for spec in wanted}
        return Inference(chosen, self.model, answer.defaulted, answer.last_known, answer.seconds)

    @cached_property
    def _answer(self) -> Run:
        pipeline = Pipeline(self.model.reference, self.model.signature, self.enricher, self.queue, self.observe_values)
        run: Run = pipeline.run
        if self.observe_batch is not None:
            run = Batcher(
                run,
                max_rows=self.model.signature.max_rows,
                concurrency=self.budget.concurrency,
                observe=self.observe_batch,
                join=self.join_batch,
            ).answer
        return run if self.log is None else self.log.around(run)

    def longest(self) -> float:
        """Return for how many seconds the oldest of the model's running calls has run; 0 if none runs."""
        return self.queue.longest()


@dataclass(frozen=True)
class NoModel:
    """Null service: every call raises NotReady with the reason."""

    reason: str

    @property
    def model(self) -> ServedModel:
        """Raise NotReady."""
        raise NotReady(self.reason)

    @property
    def budget(self) -> Budget:
        """Enough to refuse calls with the reason."""
        return Budget(limit=_TO_REFUSE, occupied=0)

    async def infer(self, inputs: Tensors, outputs: Sequence[str], deadline: Deadline) -> Inference:
        """Raise NotReady."""
        raise NotReady(self.reason)

    def longest(self) -> float:
        """Return 0: nothing runs."""
        return 0.0
