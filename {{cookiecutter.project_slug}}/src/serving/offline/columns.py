"""Read the rows that an import compares on, and declare their columns as features.

A column of numbers is FP32, any other is TEXT. An empty cell among numbers is NaN. A title that can't be the name of a
feature gets a name like it: `mean radius (mm)` becomes `mean_radius_mm`. All columns can be one matrix, as MLServer's
callers send it.
"""

from __future__ import annotations

import contextlib
import csv
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.domain.errors import OperatorError, quoted
from serving.domain.features import Entity, Feature, FeatureSet
from serving.domain.tensors import Datatype

LABEL, PROBABILITIES, PREDICTION = "label", "probabilities", "prediction"

_ENTITY = Entity("row", "Not asked for: all features come with the request.")
_TAKEN = (_ENTITY.name, LABEL, PROBABILITIES, PREDICTION)
_LONGEST = 63
_VALID = re.compile(rf"[A-Za-z][A-Za-z0-9_]{{0,{_LONGEST - 1}}}")
_MATRICES = (Datatype.FP32, Datatype.FP64)


@dataclass(frozen=True)
class Column:
    """Describe one column: its title in the file, and the feature that it becomes."""

    title: str
    name: str
    text: bool = False
    missing: bool = False

    @property
    def feature(self) -> Feature:
        """The feature; its description keeps a title that could not be its name."""
        description = self.title if self.title != self.name else ""
        datatype = Datatype.TEXT if self.text else Datatype.FP32
        return Feature(self.name, description=description, datatype=datatype, allow_nan=self.missing)


@dataclass(frozen=True)
class Matrix:
    """Name the one input [rows, columns] that callers send in place of an input per column."""

    name: str
    datatype: Datatype = Datatype.FP32

    @classmethod
    def parse(cls, text: str) -> Matrix:
        """Read `NAME` or `NAME:DATATYPE`.

        :raises OperatorError: it is neither
        """
        name, colon, datatype = text.partition(":")
        known = {form.value: form for form in _MATRICES}
        try:
            matrix = cls(name, known[datatype if colon else Datatype.FP32])
            feature_set([], matrix)
        except (KeyError, ValueError):
            raise OperatorError(
                f"--matrix {quoted(text)}: write the name of the input that callers send, for example input-0, or "
                f"input-0:FP64; the datatypes are {', '.join(known)}."
            ) from None
        return matrix

    def __str__(self) -> str:
        return f"{self.name}:{self.datatype}"

    def feature(self, columns: Sequence[Column]) -> Feature:
        """Return the feature that holds these columns; its description has their titles, in order."""
        titles = ", ".join(column.title for column in columns)
        missing = any(column.missing for column in columns)
        return Feature(self.name, "", titles, self.datatype, (len(columns),), allow_nan=missing)


def feature_set(columns: Sequence[Column], matrix: Matrix | None = None) -> FeatureSet:
    """Declare all columns as real-time features, or as the one that a matrix is."""
    return FeatureSet(
        _ENTITY, (), (matrix.feature(columns),) if matrix else tuple(column.feature for column in columns)
    )


def described(rows: Mapping[str, npt.NDArray[Any]]) -> list[Column]:
    """Describe the columns of these rows, in their order."""
    named = zip(rows.items(), _names(list(rows)), strict=True)
    return [
        Column(title, name, values.dtype.kind == "O", values.dtype.kind == "f" and bool(np.isnan(values).any()))
        for (title, values), name in named
    ]


def read_rows(path: Path, text: Collection[str] = (), numbers: Datatype = Datatype.FP32) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of a CSV file by title: numbers, or `str` objects; those in `text` are always text.

    :raises OperatorError: it is no table, or a number is infinite
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            titles, *rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise OperatorError(
            f"{path.name}: is no table of numbers and text with the names of its columns in the first line ({error})."
        ) from None
    if not rows:
        raise OperatorError(f"{path.name}: needs a row at least; below the names there is none.")
    for place, row in enumerate(rows):
        if len(row) != len(titles):
            raise OperatorError(f"{path.name}: row {place} has {len(row)} cells, and there are {len(titles)} columns.")
    twice = [title for title in titles if titles.count(title) > 1]
    if twice:
        raise OperatorError(f"{path.name}: two columns are called {quoted(twice[0])}; rename one.")
    unknown = sorted(set(text) - set(titles))
    if unknown:
        raise OperatorError(f"{path.name}: has no column {quoted(unknown[0])}, which --text names.")
    cells = zip(titles, zip(*rows, strict=True), strict=True)
    return {
        title: np.array(column, object) if title in text else _values(path, title, column, numbers)
        for title, column in cells
    }


def _values(path: Path, title: str, cells: Sequence[str], datatype: Datatype) -> npt.NDArray[Any]:
    with contextlib.suppress(ValueError):
        numbers = [float(cell) if cell.strip() else float("nan") for cell in cells]
        with np.errstate(over="ignore"):
            values = np.array(numbers, datatype.dtype)
        if np.isinf(values).any():
            row = int(np.argmax(np.isinf(values)))
            raise OperatorError(
                f"{path.name}: column {quoted(title)} holds {quoted(cells[row])} in row {row}, which {datatype} can't "
                "hold as a number; leave the cell empty, or leave out the row."
            )
        return values
    return np.array(cells, object)


def _names(titles: Sequence[str]) -> list[str]:
    """Return a valid name for each title; titles that are valid keep theirs."""
    used = set(_TAKEN) | {title for title in titles if _VALID.fullmatch(title)}
    names = []
    for title in titles:
        if _VALID.fullmatch(title) and title not in _TAKEN:
            names.append(title)
            continue
        plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
        wanted = re.sub(r"\W+", "_", plain).strip("_")
        if not wanted[:1].isalpha():
            wanted = f"column_{wanted}".rstrip("_")
        name, number = wanted[:_LONGEST], 1
        while name in used:
            number += 1
            name = f"{wanted[: _LONGEST - 1 - len(str(number))]}_{number}"
        used.add(name)
        names.append(name)
    return names
