"""The development server in a process, and SavedModels of what the models of the tests compute."""

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

from tests.platform.support.artifacts import Model

_END_S = 30.0


@contextmanager
def development_server(models: Path) -> Iterator[str]:
    """Serve what is or will be in a folder; yield the address."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "tools.development_server", "--models", str(models), "--address", address]
    with (models / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            yield address
        finally:
            process.communicate(timeout=_END_S)  # it ends with its input


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
