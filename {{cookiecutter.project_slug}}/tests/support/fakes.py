"""Fakes that ship with the repo: they pass the same contract suites as the real adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from serving.domain import Tensors
from serving.errors import DeadlineExceeded, FeaturesOutdated, FeatureStoreAway, ModelFailed
from serving.features import Feature, FeatureSet
from serving.ports import Column


class FakeStore:
    """Hold static features in a dictionary; `away` makes every read fail, `gate` makes it wait."""

    def __init__(self, rows: Mapping[bytes, Mapping[str, object]] | None = None) -> None:
        self.rows: dict[bytes, dict[str, object]] = {key: dict(row) for key, row in (rows or {}).items()}
        self.times: dict[tuple[bytes, str], int] = {}
        self.forms: dict[str, str] = {}
        self.mark = ""
        self.away = False
        self.gate: asyncio.Event | None = None
        self.reads = 0
        self.closed = False

    def supplies(self, features: FeatureSet) -> tuple[Feature, ...]:
        return features.static

    async def read(
        self, entities: Sequence[bytes], features: Sequence[Feature], *, timeout: float
    ) -> Mapping[str, Column]:
        self.reads += 1
        if self.away:
            raise FeatureStoreAway("the feature store can't be read.")
        if self.gate is not None:
            try:
                await asyncio.wait_for(self.gate.wait(), timeout)
            except TimeoutError:
                raise FeatureStoreAway(f"the feature store did not answer within {timeout:.3f} s.") from None
        rows, times, forms = self.rows, self.times, self.forms
        for feature in features:
            if (stored := forms.get(feature.name, feature.form)) != feature.form:
                raise FeaturesOutdated.of(feature.name, stored, feature.form)
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

    def write(
        self,
        features: Sequence[Feature],
        entities: Sequence[bytes],
        columns: Tensors,
        times: npt.NDArray[np.int64] | None = None,
        watermark: str = "",
    ) -> int:
        rows = {entity: dict(row) for entity, row in self.rows.items()}
        dates = [0] * len(entities) if times is None else times.tolist()
        for row, entity in enumerate(entities):
            target = rows.setdefault(entity, {})
            target.update({feature.name: columns[feature.name][row] for feature in features})
        self.rows = rows  # all of the write at once
        pairs = {(entity, f.name): date for entity, date in zip(entities, dates, strict=True) for f in features}
        self.times = self.times | pairs
        self.forms = self.forms | {feature.name: feature.form for feature in features}
        self.mark = watermark or self.mark
        return len(rows)

    def watermark(self) -> str:
        return self.mark


class FakeRuntime:
    """Answer with a function of the inputs; `gate` makes every call wait, `fault` makes it raise."""

    def __init__(self, answer: Callable[[Tensors], Tensors]) -> None:
        self.answer = answer
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
