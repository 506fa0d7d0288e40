from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.adapters.runtime import load_runtime
from serving.domain.errors import ArtifactError
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


@pytest.mark.parametrize("name", ["pickle", "joblib", "tensorrt"])
def test_a_format_without_a_runtime_is_refused(folder: Path, name: str) -> None:
    model = tiny()
    artifact = replace(model, manifest=replace(model.manifest, format=name)).opened(folder / "artifact")
    with pytest.raises(ArtifactError, match=f"the format '{name}' can't be served; this repo serves onnx"):
        load_runtime(artifact, threads=1)


class TestOnnxRuntime(ModelRuntimeContract):
    def load(self, model: Model, folder: Path) -> ModelRuntime:
        return load_runtime(model.opened(folder / "artifact"), threads=1)

    @contextmanager
    def stalled(self, folder: Path) -> Iterator[tuple[ModelRuntime, Tensors]]:
        yield self.load(slow(), folder), {"steps": np.array([200_000], np.int64)}
