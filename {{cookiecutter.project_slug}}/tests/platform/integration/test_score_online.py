"""Batch scoring gives what the server gives, to the last bit, for the model, runtime and store of this repo."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from serving.domain.artifacts import Artifact, artifact_folder, open_artifact
from serving.domain.deadline import Deadline
from serving.domain.tensors import Tensor, Tensors
from serving.offline.score.run import Options, run
from serving.online.bootstrap import build
from serving.online.inference import Inference, InferenceService
from serving.online.settings import Settings, load_settings
from serving.online.telemetry import Metrics
from tests.platform.support.scoring import read_table, write
from tests.platform.support.workspace import Workspace

ROWS = 1000
LONG_S = 60.0


@pytest.fixture
def settings(example: Workspace, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Work in the trained example."""
    monkeypatch.chdir(example.root)
    return load_settings()


def drawn(artifact: Artifact, service: InferenceService) -> Tensors:
    """Draw rows like the golden rows; some entities are unknown to every store."""
    random = np.random.default_rng(ROWS)
    rows = random.integers(0, len(artifact.golden.entities), ROWS)
    golden = artifact.golden_inputs()
    inputs: dict[str, Tensor] = {}
    for spec in service.model.signature.inputs:
        if spec.name == artifact.manifest.features.entity.name:
            known = np.array([key.encode() for key in artifact.golden.entities], object)
            inputs[spec.name] = np.where(random.random(ROWS) < 0.1, b"unknown to every store", known[rows])
        elif spec.is_float:
            scale = random.uniform(0.9, 1.1, (ROWS, *spec.row_shape))
            inputs[spec.name] = (golden[spec.name][rows] * scale).astype(spec.dtype)
        else:
            inputs[spec.name] = golden[spec.name][rows]
    return inputs


def column(tensor: Tensor) -> pa.Array:
    if tensor.dtype == object:
        return pa.array(tensor.tolist(), pa.binary())
    flat = pa.array(tensor.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, tensor[0].size) if tensor.ndim > 1 else flat


def flags(flagged: Any) -> list[str | None]:
    rows: list[list[str]] = [[] for _ in range(ROWS)]
    for name, places in flagged.items():
        for place in places:
            rows[place].append(name)
    return [";".join(names) or None for names in rows]


async def online(settings: Settings) -> tuple[Tensors, Inference]:
    async with AsyncExitStack() as resources:
        service = await build(settings, Metrics.create(), resources)
        assert isinstance(service, InferenceService)
        digest = service.model.reference.digest
        inputs = drawn(open_artifact(artifact_folder(settings.artifacts, digest), digest), service)
        return inputs, await service.infer(inputs, [], Deadline(LONG_S))


def test_a_thousand_rows_get_the_answers_and_flags_of_a_call(settings: Settings, folder: Path) -> None:
    inputs, answer = asyncio.run(online(settings))
    write(folder / "in.parquet", {name: column(tensor) for name, tensor in inputs.items()})
    output = folder / "out.parquet"
    summary = asyncio.run(run(Options([str(folder / "in.parquet")], output)))
    assert (summary.counts.rows, summary.counts.rejected) == (ROWS, 0)
    table = read_table(output)
    for name, tensor in answer.outputs.items():
        batch = table.column(name).combine_chunks()
        batch = batch.flatten() if tensor.ndim > 1 else batch
        if tensor.dtype == object:
            assert batch.cast(pa.binary()).to_pylist() == tensor.reshape(-1).tolist()
        else:
            assert batch.to_numpy().tobytes() == tensor.tobytes()
    assert table["defaulted_features"].to_pylist() == flags(answer.defaulted)
    assert table["last_known_features"].to_pylist() == flags(answer.last_known)
    assert set(table["artifact_digest"].to_pylist()) == {answer.model.reference.digest}
