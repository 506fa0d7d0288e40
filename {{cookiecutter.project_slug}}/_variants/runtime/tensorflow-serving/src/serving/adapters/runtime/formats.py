"""The artifact formats that this repo serves."""

from __future__ import annotations

from collections.abc import Mapping

from serving.adapters.runtime.onnx import OnnxRuntime
from serving.adapters.runtime.tensorflow_serving.runtime import TensorFlowServing
from serving.domain.ports import Loader

LOADERS: Mapping[str, Loader] = {"onnx": OnnxRuntime.load, "savedmodel": TensorFlowServing.load}
