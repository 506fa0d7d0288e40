"""Check the rows of `model/data.py` against the declaration in `model/features.py`, and bring them to its types."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.domain.errors import OperatorError, quoted
from serving.domain.features import Feature, FeatureSet
from serving.domain.tensors import Datatype
from serving.modeling import Dataset, History

_Array = npt.NDArray[Any]

_KINDS = {"b": "true and false", "i": "whole numbers", "u": "whole numbers", "f": "numbers"}
_SUGGESTED = {"b": Datatype.BOOL, "i": Datatype.INT64, "u": Datatype.INT64, "f": Datatype.FP32, "O": Datatype.TEXT}


def prepared(data: Dataset, features: FeatureSet) -> Dataset:
    """Return the rows with each column in its declared type, in the declared order, and with the derived columns.

    :raises OperatorError: the rows do not fit the declaration, or the target has missing values
    """
    where, rows = "model/data.py: load()", len(data)
    if not rows:
        raise OperatorError(f"{where} returns no rows.")
    for name, values in (("times", data.times), ("target", data.target)):
        if len(values) != rows:
            raise OperatorError(f"{where} returns {rows} entities and {len(values)} {name}; return one per row.")
    columns = _columns(data.columns, features.model_inputs, rows, where)
    unknown = sorted(data.columns.keys() - columns.keys())
    if unknown:
        raise OperatorError(
            f"{where} returns a column {quoted(unknown[0])} that model/features.py does not declare; declare it there "
            "or leave it out."
        )
    target = data.target
    if target.dtype.kind == "f" and np.isnan(target).any():
        row = int(np.argwhere(np.isnan(target))[0][0])
        raise OperatorError(f"{where}: the target of row {row} is NaN; leave out the rows without a target.")
    return replace(data, columns=columns | dict(features.derive(columns)), target=target)


def check_history(past: History, features: FeatureSet) -> History:
    """Return the history with each static column in its declared type; raises like `prepared`."""
    where, rows = "model/data.py: history()", len(past.entities)
    if len(past.times) != rows:
        raise OperatorError(f"{where} returns {rows} entities and {len(past.times)} times; return one per row.")
    return replace(past, columns=_columns(past.columns, features.static, rows, where))


def _columns(given: Mapping[str, _Array], features: Sequence[Feature], rows: int, where: str) -> dict[str, _Array]:
    for feature in features:
        if feature.name not in given:
            known = {name.lower(): name for name in given}
            close = difflib.get_close_matches(feature.name.lower(), known, n=1)
            hint = f"it has {quoted(known[close[0]])}" if close else "add it, or remove the feature"
            raise OperatorError(
                f"{where} returns no column {quoted(feature.name)}, which model/features.py declares; {hint}."
            )
    return {feature.name: _column(feature, given[feature.name], rows, where) for feature in features}


def _column(feature: Feature, values: _Array, rows: int, where: str) -> _Array:
    """Return a column in its declared type; text stays `str`."""
    column = f"{where}: column {quoted(feature.name)}"
    if values.shape != (rows, *feature.shape):
        raise OperatorError(
            f"{column} has the shape {list(values.shape)}, must be {[rows, *feature.shape]} by model/features.py."
        )
    if feature.datatype is Datatype.TEXT:
        return _text(column, values)
    if feature.datatype is Datatype.BYTES:
        raise OperatorError(
            f"model/features.py: feature {quoted(feature.name)} is declared BYTES, and ONNX has text instead; declare "
            "datatype=Datatype.TEXT and return str."
        )
    found = _kind(values)
    fits = {"b": "b", "i": "biu", "u": "biu", "f": "biuf"}[feature.datatype.dtype.kind]
    if found not in fits:
        held = "text" if found == "O" else _KINDS[found]
        raise OperatorError(
            f"{column} holds {held} such as {quoted(values.flat[0])}, and is declared {feature.datatype}; declare "
            f"datatype=Datatype.{_SUGGESTED[found]} in model/features.py, or convert the column."
        )
    with np.errstate(over="ignore"):
        typed = np.ascontiguousarray(values, feature.datatype.dtype)
    if feature.datatype.dtype.kind in "iu" and not np.array_equal(typed, values):
        raise OperatorError(f"{column} holds numbers that {feature.datatype} can't hold; declare Datatype.INT64.")
    row = feature.spec.forbidden_row(typed)
    if row is not None:
        kind = "an infinity" if np.isinf(typed[row]).any() else "NaN"
        out = "replace it" if kind == "an infinity" else "fill it, or declare allow_nan=True if the model handles NaN"
        raise OperatorError(f"{column} holds {kind} in row {row}; {out}.")
    return typed


def _kind(values: _Array) -> str:
    """Return the NumPy kind of a column's elements; text is "O"."""
    if values.dtype.kind == "O":
        elements = np.asarray(values.tolist())
        return elements.dtype.kind if elements.dtype.kind in _KINDS else "O"
    return values.dtype.kind if values.dtype.kind in _KINDS else "O"


def _text(column: str, values: _Array) -> _Array:
    texts = values.astype(object)
    for row, text in enumerate(texts.flat):
        if isinstance(text, bytes):
            raise OperatorError(f"{column} holds bytes in row {row}; decode them to str.")
        if not isinstance(text, str):
            kind = _SUGGESTED.get(np.asarray(text).dtype.kind, Datatype.FP32)
            raise OperatorError(
                f"{column} holds {quoted(text)} in row {row}, and is declared TEXT; convert the column to str, or "
                f"declare datatype=Datatype.{kind} in model/features.py."
            )
    return texts
