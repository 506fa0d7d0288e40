"""Import a model that exists already: `make versions ARGS="import <model> --rows <csv>"`.

A pickle can run any code. So a model is opened once, in a separate process without this one's secrets and with a
separate environment (`requirements/import.txt`). It is registered as ONNX, if its outputs match the original's on every
row. Import only what you would run.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from serving.domain.artifacts import GoldenRows, Manifest
from serving.domain.errors import OperatorError, UnresolvedReference, quoted
from serving.domain.lineage import UNKNOWN
from serving.domain.references import Reference
from serving.modeling.outputs import Output
from serving.offline import project
from serving.offline.columns import Column, Matrix, feature_set
from serving.offline.export import Export, register
from serving.offline.lineage import lineage_here
from serving.offline.registry import ModelRegistry

_ENVIRONMENT = project.ROOT / "build" / "import" / ".venv"
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from serving.offline.unpickle import main; main(sys.argv[1:])"
)
_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Wanted:
    """Hold what the command was called with; without a name or description the model's own are used."""

    source: Path
    rows: Path
    text: Sequence[str] = ()
    name: str | None = None
    description: str | None = None
    matrix: str | None = None


@dataclass(frozen=True)
class Converted:
    """Hold what the separate process found: `file` is relative to the source, `name` the model's own."""

    file: str
    origin: str
    name: str
    columns: tuple[Column, ...]
    rows: Mapping[str, list[Any]]
    outputs: tuple[Output, ...]
    answers: Mapping[str, list[Any]]
    parameters: Mapping[str, bool | int | float | str]
    libraries: Mapping[str, str]


def import_model(wanted: Wanted, registry: ModelRegistry) -> Reference:
    """Convert, compare and register a model.

    :raises OperatorError: it can't be opened or converted, or the rows don't fit it
    """
    if not wanted.source.exists():
        raise OperatorError(f"{wanted.source}: is missing; name a model file, or a folder of MLflow or MLServer.")
    if not wanted.rows.is_file():
        raise OperatorError(f"{wanted.rows}: is no file; name a CSV file of rows that the model can answer.")
    matrix = Matrix.parse(wanted.matrix) if wanted.matrix is not None else None
    with tempfile.TemporaryDirectory() as place:
        model, converted = _converted(wanted, matrix, Path(place))
    for column in converted.columns:
        if matrix is None and column.title != column.name:
            print(f"column {quoted(column.title)} is the input {column.name}")
    features = feature_set(converted.columns, matrix)
    name = wanted.name or _own_name(converted.name) or project.service()["name"]
    file = (wanted.source if wanted.source.is_dir() else wanted.source.parent) / converted.file
    parameters = {"imported": f"sha256={_digest(file)}", **converted.parameters}
    description = wanted.description or f"Imported from {converted.origin}."
    imported = lineage_here(description, f"sha256={_digest(wanted.rows)}", parameters, {}, converted.libraries)
    lineage = replace(imported, trained_at=UNKNOWN)
    manifest = Manifest(name, "onnx", features, tuple(output.spec for output in converted.outputs))
    count = len(next(iter(converted.answers.values())))
    golden = functools.partial(_golden, converted, count)
    return register(registry, Export(manifest, model, golden, count, lineage))


def interpreter() -> Path:
    """Return the interpreter of the environment that opens models.

    :raises OperatorError: the environment was not made
    """
    python = _ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        raise OperatorError(f'{_ENVIRONMENT}: is missing; `make versions ARGS="import ..."` makes it.')
    return python


def _converted(wanted: Wanted, matrix: Matrix | None, place: Path) -> tuple[bytes, Converted]:
    python, source = interpreter(), wanted.source
    print(f"opening {source} in a separate process ...")
    model, answers = place / "model.onnx", place / "answers.json"
    command = [str(python), "-I", "-c", _PROGRAM, str(project.ROOT / "src"), str(source.resolve())]
    command += [str(wanted.rows.resolve()), str(model), str(answers), str(matrix or ""), *wanted.text]
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
        found = json.loads(answers.read_text("utf-8"))
        return model.read_bytes(), TypeAdapter(Converted).validate_python(found)
    except (OSError, ValueError, ValidationError):
        raise OperatorError(f"{source}: can't be imported: it left no model behind.") from None


def _own_name(name: str) -> str:
    """Return the name that a source gives its model, if a reference can hold it."""
    try:
        return Reference.parse(f"local:{name}/1").model if name else ""
    except UnresolvedReference:
        print(f"the model is called {quoted(name)}, which is no name here (letters a-z, digits, -); see --model")
        return ""


def _golden(converted: Converted, count: int, wanted: int) -> GoldenRows:
    """Pick evenly spread rows."""
    rows = np.linspace(0, count - 1, wanted, dtype=int)
    return GoldenRows(
        tuple(str(row) for row in rows),
        {name: [values[row] for row in rows] for name, values in converted.rows.items()},
        {name: [values[row] for row in rows] for name, values in converted.answers.items()},
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
