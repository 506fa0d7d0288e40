"""The runtime over a real connection: to a fake server, and to the development server, which runs TensorFlow."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.adapters.runtime.tensorflow_serving.runtime import TensorFlowServing, version_of
from serving.domain.ports import ModelRuntime
from serving.domain.tensors import Tensors
from tests.platform.contract.model_runtime_contract import ModelRuntimeContract, question
from tests.platform.support.artifacts import Model, slow, tiny
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
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "tools.development_server", "--models", str(models), "--address", address]
    with (models / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        yield address, models
        process.communicate(timeout=30)  # it ends with its input


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


def save(model: Model, folder: Path) -> None:
    """Write a SavedModel that computes what a model of the tests computes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    def add(**inputs: Any) -> dict[str, Any]:
        return {"total": inputs["base"] + inputs["value"]}

    def echo(**inputs: Any) -> dict[str, Any]:
        return {f"{name}_out": tf.identity(tensor) for name, tensor in inputs.items()}

    def turn(steps: Any) -> dict[str, Any]:
        side = tf.ones([64, 64]) / 64
        turned = tf.while_loop(
            lambda done, _: done < steps[0], lambda done, at: (done + 1, at @ side), (np.int64(0), side)
        )
        return {"done": steps + tf.cast(tf.reduce_min(turned[1]) * 0, tf.int64)}

    functions: dict[str, Callable[..., Any]] = {"tiny": add, "rich": echo, "slow": turn}
    specs = {
        feature.name: tf.TensorSpec(
            [None, *feature.shape],
            tf.string if feature.datatype.holds_bytes else tf.as_dtype(feature.datatype.dtype),
            feature.name,
        )
        for feature in model.manifest.features.model_inputs
    }
    module = tf.Module()
    signature = tf.function(functions[model.name]).get_concrete_function(**specs)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})
