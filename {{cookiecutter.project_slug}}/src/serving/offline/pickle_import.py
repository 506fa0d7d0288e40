"""Import a model that exists already: `make versions ARGS="import <model> --rows <csv>"`.

A model is opened once, in another process, and registered as ONNX if its outputs match the original's on every row.
`opening.py` says where a pickle is opened, which can run any code.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from serving.domain.artifacts import GoldenRows, Manifest
from serving.domain.errors import OperatorError, UnresolvedReference, quoted
from serving.domain.lineage import UNKNOWN
from serving.domain.references import Reference
from serving.modeling.outputs import Output
from serving.offline import project
from serving.offline.columns import Column, Matrix, feature_set
from serving.offline.export import Export, register
from serving.offline.lineage import lineage_here
from serving.offline.opening import Given, opened
from serving.offline.registry import ModelRegistry


@dataclass(frozen=True)
class Wanted:
    """Hold what the command was called with; without a name or description the model's own are used."""

    source: Path
    rows: Path
    text: Sequence[str] = ()
    name: str | None = None
    description: str | None = None
    matrix: str | None = None
    trusted: bool = False
    """Whether a program, such as a pickle, may run with this user's rights."""


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
    model, converted = _converted(wanted, matrix)
    folder = wanted.source if wanted.source.is_dir() else wanted.source.parent
    file = folder / converted.file
    if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
        raise OperatorError(f"{wanted.source}: can't be imported: it names {quoted(converted.file)} as its file.")
    for column in converted.columns:
        if matrix is None and column.title != column.name:
            print(f"column {quoted(column.title)} is the input {column.name}")
    features = feature_set(converted.columns, matrix)
    name = wanted.name or _own_name(converted.name) or project.service()["name"]
    parameters = {"imported": f"sha256={_digest(file)}", **converted.parameters}
    description = wanted.description or f"Imported from {converted.origin}."
    imported = lineage_here(description, f"sha256={_digest(wanted.rows)}", parameters, {}, converted.libraries)
    lineage = replace(imported, trained_at=UNKNOWN)
    manifest = Manifest(name, "onnx", features, tuple(output.spec for output in converted.outputs))
    count = len(next(iter(converted.answers.values())))
    golden = functools.partial(_golden, converted, count)
    return register(registry, Export(manifest, model, golden, count, lineage))


def _converted(wanted: Wanted, matrix: Matrix | None) -> tuple[bytes, Converted]:
    document = opened(Given(wanted.source, wanted.rows, (str(matrix or ""), *wanted.text), wanted.trusted))
    if refusal := document.get("refused"):
        raise OperatorError(f"{wanted.source}: can't be imported: {refusal}")
    try:
        return base64.b64decode(document["model"]), TypeAdapter(Converted).validate_python(document["found"])
    except (KeyError, TypeError, ValueError):
        raise OperatorError(f"{wanted.source}: can't be imported: it left no model behind.") from None


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
