"""Fakes that ship with the repo: they pass the same contract suites as the real adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from serving.domain.errors import (
    DeadlineExceeded,
    FeaturesNotFilled,
    FeaturesOutdated,
    FeatureStoreUnavailable,
    ModelFailed,
)
from serving.domain.features import Feature, FeatureSet
from serving.domain.ports import Column, FeatureRows
from serving.domain.tensors import Tensors


class FakeStore:
    """Hold static features in a dictionary; `unavailable` makes every read fail, `gate` makes it wait."""

    def __init__(self, rows: Mapping[bytes, Mapping[str, object]] | None = None) -> None:
        self.rows: dict[bytes, dict[str, object]] = {key: dict(row) for key, row in (rows or {}).items()}
        self.times: dict[tuple[bytes, str], int] = {}
        self.forms: dict[str, str] = {}
        self.mark = ""
        self.filled = True
        self.unavailable = False
        self.gate: asyncio.Event | None = None
        self.reads = 0
        self.closed = False

    def supplies(self, features: FeatureSet) -> tuple[Feature, ...]:
        return features.static

    async def read(
        self, entities: Sequence[bytes], features: Sequence[Feature], *, timeout: float
    ) -> Mapping[str, Column]:
        self.reads += 1
        if self.unavailable:
            raise FeatureStoreUnavailable("the feature store can't be read.")
        if self.gate is not None:
            try:
                await asyncio.wait_for(self.gate.wait(), timeout)
            except TimeoutError:
                raise FeatureStoreUnavailable(f"the feature store did not answer within {timeout:.3f} s.") from None
        rows, times, forms = self.rows, self.times, self.forms
        for feature in features:
            if (stored := forms.get(feature.name, feature.form)) != feature.form:
                raise FeaturesOutdated.of(feature.name, stored, feature.form)
        if not self.filled and not any(entity in rows for entity in entities):
            raise FeaturesNotFilled
        return {
            feature.name: Column.of_cells(
                feature,
                [rows.get(entity, {}).get(feature.name) for entity in entities],
                [times.get((entity, feature.name), 0) for entity in entities],
            )
            for feature in features
        }

    async def close(self) -> None:
        self.closed = True

    def write(self, rows: FeatureRows, *, replace: bool = False) -> None:
        held = {} if replace else {entity: dict(row) for entity, row in self.rows.items()}
        for row, (entity, date) in enumerate(zip(rows.entities, rows.dates(), strict=True)):
            target = held.setdefault(entity, {})
            target.update({feature.name: rows.columns[feature.name][row] for feature in rows.features})
            self.times = self.times | {(entity, feature.name): date for feature in rows.features}
        self.rows = held  # the whole write at once
        self.forms = self.forms | {feature.name: feature.form for feature in rows.features}
        self.mark = rows.watermark or self.mark
        self.filled = self.filled or bool(rows.watermark)

    def delete(self, entities: Sequence[bytes]) -> int:
        return sum(self.rows.pop(entity, None) is not None for entity in entities)

    def watermark(self) -> str:
        return self.mark


class FakeRuntime:
    """Answer with a function of the inputs; `gate` makes every call wait, `fault` makes it raise."""

    def __init__(self, answer: Callable[[Tensors], Tensors]) -> None:
        self.answer = answer
        self.concurrency = 64
        self.gate: asyncio.Event | None = None
        self.fault: Exception | None = None
        self.calls = 0
        self.closed = False

    async def warm_up(self, inputs: Tensors, max_rows: int) -> None:
        self.answer(inputs)

    async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        if self.gate is not None:
            try:
                await asyncio.wait_for(self.gate.wait(), timeout)
            except TimeoutError:
                raise DeadlineExceeded(f"the model did not answer within {timeout:.3f} s.") from None
        try:
            return self.answer(inputs)
        except (ValueError, KeyError) as error:
            raise ModelFailed(f"fake: {error}") from error

    async def close(self) -> None:
        self.closed = True
