"""The answer for rows that fit the signature: enrich, predict, check; the same online and in batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from serving.domain.deadline import Deadline
from serving.domain.errors import DeadlineExceeded, ModelFailed
from serving.domain.references import Reference
from serving.domain.tensors import Signature, Tensors
from serving.prediction.enrichment import Enricher


@dataclass(frozen=True)
class Answer:
    """Hold what the model gave for some rows: its outputs, and by feature the rows that used a fallback."""

    outputs: Tensors
    defaulted: Mapping[str, Sequence[int]] = field(default_factory=dict)
    last_known: Mapping[str, Sequence[int]] = field(default_factory=dict)
    seconds: float = 0.0
    """How long the model took for these rows."""
    inputs: Tensors = field(default_factory=dict)
    """What the model received, for all rows of its call."""
    rows: slice | None = None
    """Which of the rows of `inputs` are those of this answer; None for all."""

    def part(self, start: int, rows: int, of: int) -> Answer:
        """Return the answer for `rows` of its rows, from `start` on, when it has `of` rows."""
        rest = slice(start, start + rows)
        outputs = {name: tensor[rest] for name, tensor in self.outputs.items()}
        flags = (_within(self.defaulted, rest), _within(self.last_known, rest))
        return Answer(outputs, *flags, seconds=self.seconds * rows / of, inputs=self.inputs, rows=rest)


Run = Callable[[Tensors, int, Deadline], Awaitable[Answer]]
"""Answer a batch with that number of rows until the deadline."""


Observe = Callable[[int, Tensors, Tensors], None]
"""Receives the number of rows, the inputs and the outputs of each model call that succeeded."""


class Predictor(Protocol):
    """Call the model."""

    async def predict(self, inputs: Tensors, *, timeout: float) -> tuple[Tensors, float]:
        """Return the model's answer for one batch, and how many seconds the model took.

        :raises DeadlineExceeded: the answer did not come within `timeout` seconds
        """


@dataclass(frozen=True)
class Pipeline:
    """Answer batches that `signature.check_inputs` has let pass."""

    reference: Reference
    signature: Signature
    enricher: Enricher
    predictor: Predictor
    observe: Observe | None = None

    async def run(self, inputs: Tensors, rows: int, deadline: Deadline) -> Answer:
        """Return the model's answer for one batch, of one call or several."""
        enriched = await self.enricher.enrich(inputs, deadline)
        if deadline.passed():
            raise DeadlineExceeded(f"the deadline of {deadline.timeout:.3f} s passed before the model was called.")
        results, seconds = await self.predictor.predict(enriched.inputs, timeout=deadline.left())
        if fault := self.signature.check_outputs(results, rows):
            raise ModelFailed(f"model {self.reference}: {fault}")
        if self.observe is not None:
            self.observe(rows, enriched.inputs, results)
        return Answer(results, enriched.defaulted, enriched.last_known, seconds, enriched.inputs)


def _within(flags: Mapping[str, Sequence[int]], rows: slice) -> dict[str, list[int]]:
    parts = {
        name: [row - rows.start for row in flagged if rows.start <= row < rows.stop] for name, flagged in flags.items()
    }
    return {name: part for name, part in parts.items() if part}
