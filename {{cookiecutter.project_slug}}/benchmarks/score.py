"""Compare batch scoring with a loop by hand and with calls row by row: `python -m benchmarks.score --rows 10000000`.

All three read the same Parquet file, which has all features of the pinned ONNX model, and take turns. The loop by hand
has no checks, no flags and no way to go on; it is the least that any program must do. The calls go straight to the
service, without a network.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet

from serving.domain.artifacts import Artifact, artifact_folder, open_artifact
from serving.domain.deadline import Deadline
from serving.offline import project
from serving.offline.score.run import Options, run
from serving.online.bootstrap import build
from serving.online.settings import load_settings
from serving.online.telemetry import Metrics

_BATCH_ROWS = 65_536
_CALLS = 2000
_TURNS = 3
_LONG_S = 60.0


def main() -> int:
    """Print rows per second of each, and how they compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    settings = load_settings()
    digest = settings.reference().digest
    artifact = open_artifact(artifact_folder(settings.artifacts, digest), digest)
    with tempfile.TemporaryDirectory(dir=".") as place:
        source, output = Path(place, "rows.parquet"), Path(place, "scores.parquet")
        write_rows(artifact, source, rows)
        options = Options([str(source)], output, replace=True)
        ours, loop = [], []
        for _ in range(_TURNS):
            loop.append(rows / seconds(lambda: by_hand(artifact, source, Path(place, "by_hand.parquet"))))
            ours.append(rows / seconds(lambda: asyncio.run(run(options))))
    calls = asyncio.run(row_by_row(artifact))
    print(f"{rows} rows, rows per second, the best of {_TURNS} turns:")
    print(f"  score        {max(ours):12,.0f}")
    print(f"  loop by hand {max(loop):12,.0f}   score has {max(ours) / max(loop):.2f} of it")
    print(f"  row by row   {calls:12,.0f}   score has {max(ours) / calls:.0f} times it")
    return 0


def write_rows(artifact: Artifact, path: Path, rows: int) -> None:
    """Write rows like the golden rows, a part at a time."""
    random, golden = np.random.default_rng(1), artifact.golden_inputs()
    schema = pa.schema([(name, pa.from_numpy_dtype(tensor.dtype)) for name, tensor in golden.items()])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 1 << 20):
            chosen = random.integers(0, len(artifact.golden.entities), min(1 << 20, rows - start))
            scale = random.uniform(0.9, 1.1, len(chosen))
            columns = {name: (tensor[chosen] * scale).astype(tensor.dtype) for name, tensor in golden.items()}
            writer.write_table(pa.table(columns))


def by_hand(artifact: Artifact, source: Path, target: Path) -> None:
    """Score a file with the libraries alone."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(artifact.model, options)
    inputs, outputs = [node.name for node in session.get_inputs()], [node.name for node in session.get_outputs()]
    schema = pa.schema([(spec.name, pa.from_numpy_dtype(spec.dtype)) for spec in artifact.manifest.outputs])
    with (
        pyarrow.parquet.ParquetFile(source) as file,
        pyarrow.parquet.ParquetWriter(target, schema) as writer,
    ):
        for batch in file.iter_batches(_BATCH_ROWS):
            answers = session.run(outputs, {name: batch.column(name).to_numpy() for name in inputs})
            writer.write_batch(pa.record_batch([pa.array(answer) for answer in answers], schema=schema))


async def row_by_row(artifact: Artifact) -> float:
    """Return how many calls of one row the service answers in a second."""
    async with AsyncExitStack() as resources:
        service = await build(load_settings(), Metrics.create(), resources)
        golden = artifact.golden_inputs()
        key = np.array([entity.encode() for entity in artifact.golden.entities], object)
        inputs = {spec.name: golden.get(spec.name, key)[:1] for spec in service.model.signature.inputs}
        began = time.perf_counter()
        for _ in range(_CALLS):
            await service.infer(inputs, [], Deadline(_LONG_S))
        return _CALLS / (time.perf_counter() - began)


def seconds(act: Callable[[], object]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    project.run(main)
