"""Import a pickled model: `make versions ARGS="import <pickle> --rows <csv>"`.

A pickle can run any code. It is opened once, in a separate process without this one's secrets and with a separate
environment (`requirements/import.txt`). The model is registered as ONNX, if its outputs match the original's on every
row. Import only what you would run.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from serving.domain.artifacts import GoldenRows, Manifest
from serving.domain.errors import OperatorError
from serving.domain.features import Entity, Feature, FeatureSet
from serving.domain.lineage import UNKNOWN
from serving.domain.references import Reference
from serving.domain.tensors import ROWS, Datatype, TensorSpec
from serving.offline import project, unpickle
from serving.offline.export import Export, register
from serving.offline.lineage import lineage_here
from serving.offline.registry import ModelRegistry

_ENVIRONMENT = project.ROOT / "build" / "import" / ".venv"
_TIMEOUT_S = 300.0
_ENTITY = Entity("row", "Not asked for: all features come with the request.")


def import_model(source: Path, rows: Path, name: str, description: str, registry: ModelRegistry) -> Reference:
    """Convert, compare and register a pickled estimator.

    :raises OperatorError: it can't be opened or converted, or the rows don't fit it
    """
    for path in (source, rows):
        if not path.is_file():
            raise OperatorError(
                f"{path}: is no file; name the pickled model and a CSV file of rows that it can answer."
            )
    with tempfile.TemporaryDirectory() as place:
        model, result = _converted(source, rows, Path(place))
    try:
        features = FeatureSet(_ENTITY, (), tuple(Feature(name) for name in result["features"]))
    except ValueError as error:
        raise OperatorError(f"{rows}: {error}.") from None
    outputs = tuple(_output(name, np.asarray(values)) for name, values in result["answers"].items())
    parameters = {"imported": f"sha256={_digest(source)}", **result["parameters"]}
    imported = lineage_here(description, f"sha256={_digest(rows)}", parameters, {}, result["libraries"])
    lineage = replace(imported, trained_at=UNKNOWN)
    count = len(next(iter(result["answers"].values())))
    golden = functools.partial(_golden, result, count)
    return register(registry, Export(Manifest(name, "onnx", features, outputs), model, golden, count, lineage))


def interpreter() -> Path:
    """Return the interpreter of the environment that opens pickles.

    :raises OperatorError: the environment was not made
    """
    python = _ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        raise OperatorError(f'{_ENVIRONMENT}: is missing; `make versions ARGS="import ..."` makes it.')
    return python


def _converted(source: Path, rows: Path, place: Path) -> tuple[bytes, Mapping[str, Any]]:
    python = interpreter()
    print(f"opening {source} in a separate process ...")
    command = [str(python), "-I", str(unpickle.__file__), str(source.resolve()), str(rows.resolve()), str(place)]
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    try:
        done = subprocess.run(
            command,
            cwd=place,
            env=kept | {"HOME": str(place)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            errors="backslashreplace",
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise OperatorError(f"{source}: was not opened and converted within {_TIMEOUT_S:g} s.") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"its process ended with code {done.returncode}"])[-1]
        raise OperatorError(f"{source}: can't be imported: {last}")
    try:
        return (place / unpickle.MODEL).read_bytes(), json.loads((place / unpickle.ANSWERS).read_text("utf-8"))
    except (OSError, ValueError):
        raise OperatorError(f"{source}: can't be imported: it left no model behind.") from None


def _output(name: str, values: np.ndarray[Any, Any]) -> TensorSpec:
    datatype = Datatype.INT64 if name == "label" else Datatype.FP32
    return TensorSpec(name, datatype, (ROWS, *values.shape[1:]))


def _golden(result: Mapping[str, Any], count: int, wanted: int) -> GoldenRows:
    """Pick evenly spread rows."""
    rows = np.linspace(0, count - 1, wanted, dtype=int)
    return GoldenRows(
        tuple(str(row) for row in rows),
        {name: [values[row] for row in rows] for name, values in result["columns"].items()},
        {name: [values[row] for row in rows] for name, values in result["answers"].items()},
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
