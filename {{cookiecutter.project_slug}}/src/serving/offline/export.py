"""Compare an exported model with its original on every row, and register it if they agree."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from serving.adapters.runtime import load_runtime
from serving.domain.artifacts import Artifact, GoldenRows, Manifest, open_artifact, write_artifact
from serving.domain.distributions import Distributions, describe
from serving.domain.errors import ArtifactError, quoted
from serving.domain.golden import agreeing
from serving.domain.lineage import Lineage
from serving.domain.references import Reference
from serving.offline.registry import ModelRegistry

_GOLDEN_ROWS = 8
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Export:
    """Hold the parts of an artifact; `golden(n)` returns n of the `rows` with the original model's outputs."""

    manifest: Manifest
    model: bytes
    golden: Callable[[int], GoldenRows]
    rows: int
    lineage: Lineage


def register(registry: ModelRegistry, export: Export) -> Reference:
    """Register a model.

    :raises ModelFailed: the exported model raised
    :raises ArtifactError: its outputs differ from the original's
    """
    with tempfile.TemporaryDirectory() as staging:
        folder = Path(staging, "artifact")
        return registry.register(export.manifest.model, folder, write_export(export, folder))


def write_export(export: Export, folder: Path) -> str:
    """Write a model's artifact to a new folder and return its digest; raises like `register`."""
    print("comparing the exported model with the original ...")
    with tempfile.TemporaryDirectory() as staging:
        folder_of_all = Path(staging, "every-row")
        every = open_artifact(folder_of_all, _write(export, folder_of_all, export.rows))
    asyncio.run(_compare(every))
    described = replace(export, lineage=replace(export.lineage, distributions=_distributions(every)))
    return _write(described, folder, min(_GOLDEN_ROWS, export.rows))


def _distributions(every: Artifact) -> Distributions:
    """Describe the values of all rows, the original model's answers among them."""
    inputs = [feature.spec for feature in every.manifest.features.model_inputs]
    return Distributions(
        describe(inputs, every.golden_inputs(), outputs=False),
        describe(every.manifest.outputs, every.golden_outputs(), outputs=True),
    )


def _write(export: Export, folder: Path, rows: int) -> str:
    return write_artifact(folder, export.manifest, export.model, export.golden(rows), export.lineage)


async def _compare(artifact: Artifact) -> None:
    """Run the exported model on all rows of its artifact; refuse it if one answer differs from the original's."""
    runtime = load_runtime(artifact, threads=1)
    try:
        exported = await runtime.predict(artifact.golden_inputs(), timeout=_TIMEOUT_S)
    finally:
        await runtime.close()
    for spec in artifact.manifest.outputs:
        expected, actual = artifact.golden_outputs()[spec.name], exported[spec.name]
        if actual.shape != expected.shape:
            raise ArtifactError(
                f"output {spec.name}: the exported model answers {list(actual.shape)}, the original "
                f"{list(expected.shape)}; it is not registered."
            )
        differ = ~agreeing(actual, expected, spec, artifact.golden)
        if differ.any():
            row = int(np.argmax(differ))
            raise ArtifactError(
                f"output {spec.name}: the exported model differs from the original in {int(differ.sum())} of "
                f"{len(differ)} rows, first for {artifact.golden.entities[row]} ({quoted(actual[row])}, must be "
                f"{quoted(expected[row])}); it is not registered. A scaler before trees is a common cause: ONNX rounds "
                "to FP32, and trees need no scaler."
            )
