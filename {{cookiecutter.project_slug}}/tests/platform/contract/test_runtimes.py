from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from serving.adapters.runtime import load_runtime
from serving.domain.ports import ModelRuntime
from serving.domain.tensors import Tensors
from tests.platform.contract.model_runtime_contract import ModelRuntimeContract, question
from tests.platform.support.artifacts import Model, slow, tiny
from tests.platform.support.fakes import FakeRuntime
from tests.platform.support.services import answer_of


class TestFakeRuntime(ModelRuntimeContract):
    def load(self, model: Model, folder: Path) -> ModelRuntime:
        return FakeRuntime(answer_of(model))

    @contextmanager
    def stalled(self, folder: Path) -> Iterator[tuple[ModelRuntime, Tensors]]:
        runtime = FakeRuntime(answer_of(tiny()))
        runtime.gate = asyncio.Event()
        yield runtime, question(1.0)


class TestOnnxRuntime(ModelRuntimeContract):
    def load(self, model: Model, folder: Path) -> ModelRuntime:
        return load_runtime(model.opened(folder / "artifact"), threads=1)

    @contextmanager
    def stalled(self, folder: Path) -> Iterator[tuple[ModelRuntime, Tensors]]:
        yield self.load(slow(), folder), {"steps": np.array([200_000], np.int64)}
