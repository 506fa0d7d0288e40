"""Model metadata and predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Tensor = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorMetadata:
    """Describe one input or output; -1 in `shape` is the number of rows, which the caller chooses."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelMetadata:
    """Describe a model's inputs and outputs; `properties` has units, descriptions and the digest."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    properties: Mapping[str, str] = field(default_factory=dict)

    def same_signature(self, other: ModelMetadata) -> bool:
        """Return whether both models take the same requests."""
        return self.inputs == other.inputs and self.outputs == other.outputs


@dataclass(frozen=True)
class Prediction(Mapping[str, Tensor]):
    """Hold an answer: a mapping from output name to array, one row per row of the request; text is `str`.

    `model_version` and `artifact_digest` identify the model. `defaulted` lists, by feature, the rows that used the
    declared default for an unknown value, `last_known` those that used the last known value: check both before you rely
    on an answer.
    """

    outputs: Mapping[str, Tensor]
    model: str
    model_version: str
    artifact_digest: str
    request_id: str
    defaulted: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    last_known: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    def as_dict(self) -> dict[str, Any]:
        """Return the answer in JSON types."""
        return {
            "model": self.model,
            "model_version": self.model_version,
            "artifact_digest": self.artifact_digest,
            "request_id": self.request_id,
            "defaulted": {name: list(rows) for name, rows in self.defaulted.items()},
            "last_known": {name: list(rows) for name, rows in self.last_known.items()},
            "outputs": {name: _plain(tensor) for name, tensor in self.outputs.items()},
        }


def _plain(tensor: Tensor) -> Any:
    if tensor.dtype == object:
        text = [
            item.decode("utf-8", "backslashreplace") if isinstance(item, bytes) else item for item in tensor.ravel()
        ]
        return np.array(text, dtype=object).reshape(tensor.shape).tolist()
    return tensor.tolist()
