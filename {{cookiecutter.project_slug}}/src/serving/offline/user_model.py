"""Open the three files of `model/`: the only place of the platform that imports them.

`model/features.py` gives FEATURES, `model/data.py` gives `load` and `history`, `model/estimator.py` gives OUTPUTS and
`fit`. Whatever their code raises becomes one sentence with the file and the line; the traceback goes to a file.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Protocol, TypeVar, cast

import numpy as np

from serving.domain.errors import OperatorError, ServingError, quoted
from serving.domain.features import FeatureSet
from serving.domain.tensors import Datatype
from serving.modeling import Dataset, Fitted, History, Output
from serving.offline import project
from serving.offline.rows import check_history, prepared

_T = TypeVar("_T")

TRACEBACK = Path("build", "traceback.txt")
_FOLDER = "model"


class Declaration(Protocol):
    """The names of `model/features.py`."""

    FEATURES: FeatureSet


class Data(Protocol):
    """The names of `model/data.py`."""

    def load(self) -> Dataset:
        """Return the rows to train on."""


class StaticData(Protocol):
    """The names of `model/data.py` if there are static features."""

    def history(self) -> History:
        """Return the static features of every entity over time."""


class Estimator(Protocol):
    """The names of `model/estimator.py`."""

    @property
    def OUTPUTS(self) -> tuple[Output, ...]:  # noqa: N802 - a constant, here only read
        """What the model answers."""

    def fit(self, data: Dataset) -> Fitted:
        """Fit an estimator on the columns of `data`, derived features last, and measure it."""


@dataclass(frozen=True)
class Training:
    """Hold a trained model: the rows as `fit` received them, and what it returned."""

    features: FeatureSet
    outputs: tuple[Output, ...]
    data: Dataset
    fitted: Fitted


def features() -> FeatureSet:
    """Return the declared features."""
    with _user_code():
        return _declared(_features().FEATURES, FeatureSet, "features.py: FEATURES")


def dataset() -> Dataset:
    """Load the rows and check them against the declaration; derived features are added.

    :raises OperatorError: a column is missing, or does not have the declared type or shape
    """
    declared = features()
    with _user_code():
        data = _data().load()
    return prepared(_declared(data, Dataset, "data.py: load()"), declared)


def history() -> History:
    """Load the static features over time and check them against the declaration; raises like `dataset`."""
    declared = features()
    with _user_code():
        past = cast("StaticData", _data()).history()
    return check_history(_declared(past, History, "data.py: history()"), declared)


def outputs() -> tuple[Output, ...]:
    """Return the declared outputs."""
    with _user_code():
        declared = _declared(_estimator().OUTPUTS, tuple, "estimator.py: OUTPUTS")
    typed = tuple(_declared(output, Output, "estimator.py: an entry of OUTPUTS") for output in declared)
    names = [output.name for output in typed]
    if not names or len(set(names)) < len(names):
        raise OperatorError(f"model/estimator.py: OUTPUTS declares {names}; declare at least one, each name once.")
    return typed


def fit(data: Dataset) -> Fitted:
    """Fit the model on prepared rows."""
    with _user_code():
        fitted = _estimator().fit(data)
    fitted = _declared(fitted, Fitted, "estimator.py: fit()")
    return replace(
        fitted,
        parameters={name: _plain("parameter", name, value) for name, value in fitted.parameters.items()},
        metrics={name: float(_plain("metric", name, value)) for name, value in fitted.metrics.items()},
    )


def _plain(kind: str, name: str, value: object) -> float | int | str | bool:
    """Return a value as JSON can hold it."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, str) and kind == "parameter":
        return plain
    if isinstance(plain, bool | int | float) and math.isfinite(plain):
        return plain
    raise OperatorError(
        f"model/estimator.py: {kind} {name} is {quoted(plain)}, must be a finite number{_OR_TEXT[kind]}."
    )


_OR_TEXT = {"parameter": ", True, False or text", "metric": ""}


def train(data: Dataset) -> Training:
    """Fit the model on prepared rows; return all that an export needs."""
    return Training(features(), outputs(), data, fit(data))


# Imported late: the user's code may fail. `make check` compares each module with its protocol.
def _features() -> Declaration:
    from model import features

    return features


def _data() -> Data:
    from model import data

    return data


def _estimator() -> Estimator:
    from model import estimator

    return estimator


def _declared(value: object, kind: type[_T], what: str) -> _T:
    if isinstance(value, kind):
        return value
    name = "tuple of Output" if kind is tuple else kind.__name__
    raise OperatorError(f"model/{what} is a {type(value).__name__}, must be a {name}; see docs/model.md.")


@contextmanager
def _user_code() -> Iterator[None]:
    """Turn what the user's code raises into one sentence that names its file and line."""
    try:
        yield
    except ServingError:
        raise
    except Exception as error:  # the user's code raises whatever it likes
        raise OperatorError(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    cause = text if isinstance(error, OSError | ValueError) and text else f"{type(error).__name__}: {text}"
    return f"{_place(error)}{cause.rstrip('.')}{_hint(error)}.{_kept(error)}"


def _kept(error: Exception) -> str:
    """Write the traceback to a file and return where it is; a container's file system may be read-only."""
    path = project.ROOT / TRACEBACK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError:
        return ""
    return f" The traceback is in {TRACEBACK.as_posix()}."


def _place(error: Exception) -> str:
    """Return the last line below `model/` that the error passed through, or that can't be parsed."""
    folder = project.ROOT / _FOLDER
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(Path(error.filename))}, line {error.lineno}: "
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if folder in Path(frame.filename).parents]
    return f"{_shown(Path(frames[-1].filename))}, line {frames[-1].lineno}: " if frames else f"{_FOLDER}/: "


def _shown(path: Path) -> str:
    return path.relative_to(project.ROOT).as_posix() if project.ROOT in path.parents else str(path)


def _hint(error: Exception) -> str:
    """Return the way out of a mistake that is easily made."""
    if isinstance(error, AttributeError) and error.obj is Datatype:
        return f"; the datatypes are {', '.join(Datatype.__members__)}"
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith((_FOLDER, "serving")):
        return "; add the package to model/requirements.in, then `make lock setup`"
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        return "; docs/model.md lists the names that each file must have"
    return ""
