"""Ask an estimator for the declared outputs, with its rows as training gave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from serving.adapters.runtime.python.libraries import Estimator
from serving.adapters.runtime.python.packed import Ask
from serving.domain.artifacts import Manifest
from serving.domain.errors import InvalidRequest, quoted
from serving.domain.features import flat
from serving.domain.tensors import Tensor, Tensors


class Predictor:
    """Turn columns into rows, ask for each answer once, and give every output its declared type."""

    def __init__(self, estimator: Estimator, asks: Sequence[Ask], manifest: Manifest, *, frame: bool) -> None:
        self._estimator = estimator
        self._asks = asks
        self._features = manifest.features
        self._specs = {spec.name: spec for spec in manifest.outputs}
        self._frame = frame

    def __call__(self, inputs: Tensors) -> Tensors:
        """Return the outputs for a batch of model inputs."""
        columns = {feature.name: _as_text(feature.name, inputs) for feature in self._features.model_inputs}
        columns |= self._features.derive(columns)
        rows = self._rows(dict(flat(columns)))
        answered = {method: np.asarray(getattr(self._estimator, method)(rows)) for method in self._methods()}
        return {ask.output: self._output(ask, answered[ask.method]) for ask in self._asks}

    def _methods(self) -> list[str]:
        return sorted({ask.method for ask in self._asks})

    def _rows(self, columns: dict[str, Tensor]) -> Any:
        if not self._frame:
            return np.column_stack(list(columns.values()))
        import pandas as pd

        return pd.DataFrame(columns)

    def _output(self, ask: Ask, answered: Tensor) -> Tensor:
        spec = self._specs[ask.output]
        if ask.column is not None:
            answered = answered[:, ask.column]
        if ask.labels:
            answered = np.array(ask.labels, object)[answered.reshape(-1).astype(np.int64)]
        shaped = answered.reshape(len(answered), *spec.shape[1:])
        return cast("Tensor", _TO_BYTES(shaped)) if spec.datatype.holds_bytes else shaped.astype(spec.dtype)


def _as_text(name: str, inputs: Tensors) -> Tensor:
    tensor = inputs[name]
    if tensor.dtype != object:
        return tensor
    try:
        return cast("Tensor", _TO_TEXT(tensor))
    except UnicodeDecodeError:
        raise InvalidRequest(f"input {quoted(name)}: an element is not UTF-8, and this model takes text.") from None


_TO_TEXT = np.frompyfunc(bytes.decode, 1, 1)
_TO_BYTES = np.frompyfunc(lambda text: str(text).encode(), 1, 1)
