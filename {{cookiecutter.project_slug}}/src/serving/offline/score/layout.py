"""What the columns of the input mean: features, entity keys with or without a date, what is copied to the output."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from serving.domain.artifacts import Manifest
from serving.domain.errors import OperatorError, quoted
from serving.domain.features import Feature
from serving.domain.tensors import TensorSpec
from serving.offline.score.column_types import element, fits, is_text
from serving.offline.score.files import InputFile

ROW, FILE = "row", "file"
VERSION, DIGEST = "model_version", "artifact_digest"
DEFAULTED, LAST_KNOWN = "defaulted_features", "last_known_features"
ADDED = (VERSION, DIGEST, DEFAULTED, LAST_KNOWN)


class Source(enum.StrEnum):
    """Say where the static features come from."""

    COLUMNS = "columns"
    """The input has them, or the model has none."""

    STORE = "store"
    """The feature store has their newest values, by entity key."""

    HISTORY = "history"
    """model/data.py has what was known at the row's date, as in training."""


@dataclass(frozen=True)
class Layout:
    """Hold the meaning of the columns: `inputs` are read and checked, `keys` are copied as they are."""

    source: Source
    inputs: tuple[TensorSpec, ...]
    keys: tuple[pa.Field, ...]
    date: str = ""

    def columns(self, schema: pa.Schema) -> list[str]:
        """Return the columns to read of a file with this schema."""
        names = [part for spec in self.inputs for part in parts(spec, schema)]
        return list(dict.fromkeys([*names, *(key.name for key in self.keys), *([self.date] if self.date else [])]))


def parts(spec: TensorSpec, schema: pa.Schema) -> list[str]:
    """Return the columns that hold an input: one, or one for each number of an array."""
    if spec.row_shape and spec.name not in schema.names:
        return [f"{spec.name}_{place}" for place in range(spec.row_elements)]
    return [spec.name]


def choose(
    manifest: Manifest,
    supplied: tuple[Feature, ...],
    file: InputFile,
    schema: pa.Schema,
    *,
    date: str,
    keys: Sequence[str],
) -> Layout:
    """Return what the columns of the first file mean; `supplied` are the features that need not be there.

    :raises OperatorError: static features are given in part, or a column of the output would stand there twice
    """
    features = manifest.features
    given = [feature for feature in supplied if set(parts(feature.spec, schema)) <= set(schema.names)]
    source = Source.HISTORY if date else Source.STORE
    if not date and len(given) == len(supplied):
        source, supplied = Source.COLUMNS, ()
    if source is not Source.COLUMNS and given and features.entity.name not in schema.names:
        missing = next(feature.name for feature in supplied if feature not in given)
        raise OperatorError(
            f"{file.path}: has {given[0].name} and no {missing}; give all static features, or the key "
            f"{features.entity.name} for those of the store."
        )
    inputs = features.request_inputs(supplied)
    own = [features.entity.name] if features.entity.name in schema.names else []
    names = list(dict.fromkeys(keys or [*own, *([date] if date else [])]))
    check(Layout(source, inputs, (), date), file, schema, names)
    layout = Layout(source, inputs, tuple(_key(schema.field(name)) for name in names), date)
    taken = [
        *(key.name for key in layout.keys),
        *([] if names else [FILE, ROW]),
        *(spec.name for spec in manifest.outputs),
        *ADDED,
    ]
    twice = next((name for name in taken if taken.count(name) > 1), None)
    if twice:
        raise OperatorError(f"{file.path}: the output has another column {quoted(twice)}; rename that of the input.")
    return layout


def check(layout: Layout, file: InputFile, schema: pa.Schema, keys: Sequence[str]) -> None:
    """Refuse a file whose columns are not those of the layout.

    :raises OperatorError: a column is missing, there twice, or of another type
    """
    for spec in layout.inputs:
        for name in parts(spec, schema):
            _there(name, file, schema, "the model needs")
            kind = schema.field(name).type
            if not fits(spec, kind, key=spec is layout.inputs[0] and layout.source is not Source.COLUMNS):
                raise OperatorError(
                    f"{file.path}: column {quoted(name)} is {kind}, must hold {spec.datatype}; convert the column."
                )
    for name in [*keys, *([layout.date] if layout.date else [])]:
        _there(name, file, schema, "the command names")
    for key in layout.keys:
        found = _key(schema.field(key.name)).type
        if found != key.type:
            raise OperatorError(
                f"{file.path}: column {quoted(key.name)} is {found}, in the first file {key.type}; convert one of them."
            )
    if layout.date and not _is_date(element(schema.field(layout.date).type)):
        kind = schema.field(layout.date).type
        raise OperatorError(f"{file.path}: column {quoted(layout.date)} is {kind}, must hold dates.")


def _there(name: str, file: InputFile, schema: pa.Schema, why: str) -> None:
    found = schema.get_all_field_indices(name)
    if len(found) > 1:
        raise OperatorError(f"{file.path}: has {len(found)} columns {quoted(name)}; rename all but one.")
    if not found:
        known = {other.lower(): other for other in schema.names}
        close = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"it has {quoted(known[close[0]])}" if close else "add it"
        raise OperatorError(f"{file.path}: has no column {quoted(name)}, which {why}; {hint}.")


def _key(field: pa.Field) -> pa.Field:
    """Return a column as the output has it: all text as one type, whatever the file."""
    kind = element(field.type) if pa.types.is_dictionary(field.type) else field.type
    return pa.field(field.name, pa.string() if is_text(kind) else kind)


def _is_date(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(is_text(kind) or types.is_integer(kind) or types.is_date(kind) or types.is_timestamp(kind))
