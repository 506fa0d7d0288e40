"""The runtime over a real connection: to a fake server, and to the development server, which runs TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from serving.adapters.runtime.tensorflow_serving.runtime import TensorFlowServing, version_of
from serving.domain.ports import ModelRuntime
from serving.domain.tensors import Tensors
from tests.platform.contract.model_runtime_contract import ModelRuntimeContract, question
from tests.platform.support.artifacts import Model, slow, tiny
from tests.platform.support.development_server import development_server, save
from tests.platform.support.fake_tensorflow_serving import FakeTensorFlowServing
from tests.platform.support.services import answer_of


class TestTensorFlowServing(ModelRuntimeContract):
    @pytest.fixture(autouse=True)
    def _servers(self) -> Iterator[None]:
        self.servers: list[FakeTensorFlowServing] = []
        yield
        for server in self.servers:
            server.stop()

    def load(self, model: Model, folder: Path) -> ModelRuntime:
        self.servers.append(FakeTensorFlowServing(model.manifest, answer_of(model)))
        return self.servers[-1].runtime()

    @contextmanager
    def stalled(self, folder: Path) -> Iterator[tuple[ModelRuntime, Tensors]]:
        runtime = self.load(tiny(), folder)
        self.servers[-1].gate.clear()
        yield runtime, question(1.0)
        self.servers[-1].gate.set()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A development server without models, which looks for new ones; its address and folder."""
    models = tmp_path_factory.mktemp("models")
    with development_server(models) as address:
        yield address, models


class TestDevelopmentServer(ModelRuntimeContract):
    @pytest.fixture(autouse=True)
    def _served(self, served: tuple[str, Path]) -> None:
        self.address, self.models = served

    def load(self, model: Model, folder: Path) -> ModelRuntime:
        artifact = model.opened(folder / "artifact")
        version = version_of(artifact.digest)
        target = self.models / model.name / str(version)
        if not target.exists():
            save(model, folder / "saved")
            target.parent.mkdir()
            (folder / "saved").replace(target)
        inputs = [feature.spec for feature in model.manifest.features.model_inputs]
        return TensorFlowServing(self.address, model.name, version, inputs, model.manifest.outputs)

    @contextmanager
    def stalled(self, folder: Path) -> Iterator[tuple[ModelRuntime, Tensors]]:
        runtime = self.load(slow(), folder)
        few, many = ({"steps": np.array([count], np.int64)} for count in (1, 30_000))
        yield _Known(runtime, few), many


class _Known:
    """A runtime whose first call is answered before the one that is asked for: until then it waits for the model."""

    def __init__(self, runtime: ModelRuntime, first: Tensors) -> None:
        self._runtime = runtime
        self._first = first

    async def warm_up(self, inputs: Tensors, max_rows: int) -> None:
        await self._runtime.warm_up(inputs, max_rows)

    async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
        await self._runtime.predict(self._first, timeout=60)
        return await self._runtime.predict(inputs, timeout=timeout)

    async def close(self) -> None:
        await self._runtime.close()
