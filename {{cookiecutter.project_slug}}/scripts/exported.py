"""Compare an exported model with the one it came from, on every row there is, and register it if they agree."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

from serving.adapters.runtime import load_runtime
from serving.artifacts import GoldenRows, Manifest, open_artifact, write_artifact
from serving.golden import replay
from serving.references import Reference
from serving.registry import ModelRegistry

_GOLDEN_ROWS = 8
_TIMEOUT_S = 60.0


def register(
    registry: ModelRegistry, manifest: Manifest, model: bytes, golden: Callable[[int], GoldenRows], rows: int
) -> Reference:
    """Register a model; `golden(n)` gives n of the `rows`, with the original's answers.

    :raises ModelFailed: the exported model raised
    :raises ArtifactError: it answers otherwise than the original
    """
    with tempfile.TemporaryDirectory() as staging:
        print("comparing the exported model with the original ...")
        every = Path(staging, "every-row")
        asyncio.run(_replay(every, write_artifact(every, manifest, model, golden(rows))))
        final = Path(staging, "final")
        digest = write_artifact(final, manifest, model, golden(min(_GOLDEN_ROWS, rows)))
        return registry.register(manifest.model, final, digest)


async def _replay(folder: Path, digest: str) -> None:
    artifact = open_artifact(folder, digest)
    runtime = load_runtime(artifact, threads=1)
    try:
        await replay(artifact, runtime, timeout=_TIMEOUT_S)
    finally:
        await runtime.close()
