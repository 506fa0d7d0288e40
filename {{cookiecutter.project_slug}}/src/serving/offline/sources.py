"""Find the model in what an import names, and open it as an estimator with scikit-learn's interface.

It is a model file, a model folder of MLflow, or one of MLServer. A file's first bytes decide what opens it. This runs
in the environment that opens pickles: see `unpickle.py`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from serving.domain.errors import OperatorError, quoted

MLMODEL, SETTINGS = "MLmodel", "model-settings.json"
PROGRAMS, DATA = "programs", "data"
"""What may be opened: pickles too, or only files that can hold no code."""

SUPPORTED = (
    "a pickle, joblib or skops file, a model file of XGBoost (JSON or UBJ), LightGBM (text) or CatBoost (cbm), a "
    f"folder with MLflow's {MLMODEL}, a folder with MLServer's {SETTINGS}"
)

_FLAVORS = {"sklearn": "pickled_model", "xgboost": "data", "lightgbm": "data", "catboost": "data"}
"""MLflow's flavors, and the key under which each names its file."""

_RUNTIMES = {
    "mlserver_sklearn.SKLearnModel": ("model.joblib", "model.pickle", "model.pkl"),
    "mlserver_xgboost.XGBoostModel": ("model.bst", "model.json", "model.ubj"),
    "mlserver_lightgbm.LightGBMModel": ("model.bst",),
    "mlserver_catboost.CatboostModel": ("model.cbm", "model.bin"),
    "mlserver_mlflow.MLflowRuntime": (MLMODEL,),
}
"""MLServer's implementations, and the files that each looks for in a folder."""

_NO_PICKLES = (".bst", ".cbm", ".json", ".skops", ".txt", ".ubj")
_PICKLES = (b"\x80", b"\x78", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x5d\x00", b"\x04\x22\x4d\x18", b"ZF")
"""How pickles of protocol 2 and later begin, and what joblib compresses."""

_CLASSIFY = {
    "xgboost": ("binary:logistic", "multi:softprob", "multi:softmax"),
    "lightgbm": ("binary", "multiclass", "multiclassova"),
}
_REGRESS = {
    "xgboost": re.compile(r"(reg|count|rank):.*"),
    "lightgbm": re.compile(r"(?!cross_entropy|lambdarank|rank_|none|custom).+"),
}


@dataclass(frozen=True)
class Source:
    """Name a model file, what wrote it, and the model's name and MLServer's runtime, if the source has them."""

    file: Path
    origin: str = "a model file"
    name: str = ""
    runtime: str = ""


def find(path: Path) -> Source:
    """Return the model file that a path leads to.

    :raises OperatorError: it leads to none that is supported
    """
    if (path / MLMODEL).is_file():
        return _mlflow(path)
    if path.name == MLMODEL:
        return _mlflow(path.parent)
    if path.name == SETTINGS:
        return _mlserver(path.parent)
    if (path / SETTINGS).is_file():
        return _mlserver(path)
    if path.is_dir():
        raise OperatorError(f"{path.name}: is a folder without {MLMODEL} or {SETTINGS}; supported are {SUPPORTED}.")
    return Source(path)


class ProgramFoundError(OperatorError):
    """The file is a program, such as a pickle, and may not be run here."""


def load(source: Source, *, programs: bool) -> Any:
    """Open a model file; a pickle runs its author's code, and so may a file of skops.

    :raises ProgramFoundError: it is such a file, and `programs` is false
    :raises OperatorError: it is not supported or can't be opened
    """
    try:
        content = source.file.read_bytes()
    except OSError as error:
        raise OperatorError(f"{source.file.name}: can't be read ({error.strerror}).") from None
    for starts, (writer, read) in _READERS.items():
        if content.startswith(starts):
            if starts in _PROGRAMS and not programs:
                raise ProgramFoundError(f"{source.file.name} is a file of {writer}")
            try:
                return read(content, source.file)
            except OperatorError:
                raise
            except Exception as error:  # libraries raise whatever they like
                raise OperatorError(
                    f"{source.file.name}: looks like a file of {writer}, which can't open it ({cause_of(error)}); "
                    f"supported are {SUPPORTED}."
                ) from error
    if source.file.suffix in _NO_PICKLES:
        begins = quoted(content[:16]) if content else "nothing"
        raise OperatorError(
            f"{source.file.name}: begins with {begins}, which no {source.file.suffix} file does; supported are "
            f"{SUPPORTED}."
        )
    if not programs:
        raise ProgramFoundError(f"{source.file.name} is a pickle")
    return _rebuilt(_unpickled(content, source.file), source.file)


def _mlflow(folder: Path) -> Source:
    where = f"{folder.name}/{MLMODEL}"
    try:
        flavors = import_module("yaml").safe_load((folder / MLMODEL).read_text(encoding="utf-8"))["flavors"]
        flavor = next((name for name in _FLAVORS if name in flavors), "")
        file = str(flavors[flavor][_FLAVORS[flavor]]) if flavor else ""
    except (OSError, UnicodeDecodeError, KeyError, TypeError, import_module("yaml").YAMLError) as error:
        raise OperatorError(f"{where}: can't be read ({cause_of(error)}).") from None
    if not flavor:
        raise OperatorError(
            f"{where}: has the flavors {', '.join(map(str, flavors))}; supported are {', '.join(_FLAVORS)}."
        )
    return Source(_inside(folder, file, where), f"a model folder of MLflow ({flavor})")


def _mlserver(folder: Path) -> Source:
    where = f"{folder.name}/{SETTINGS}"
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        runtime, name = str(settings.get("implementation") or ""), str(settings.get("name") or "")
        uri = str((settings.get("parameters") or {}).get("uri") or ".")
    except (OSError, ValueError, AttributeError) as error:
        raise OperatorError(f"{where}: can't be read ({cause_of(error)}).") from None
    if runtime not in _RUNTIMES:
        raise OperatorError(f"{where}: has the implementation {quoted(runtime)}; supported are {', '.join(_RUNTIMES)}.")
    place = _inside(folder, uri, where)
    origin = f"a model of MLServer ({runtime.rpartition('.')[2]})"
    if runtime.startswith("mlserver_mlflow"):
        return Source(_mlflow(place.parent if place.name == MLMODEL else place).file, origin, name, runtime)
    if place.is_dir():
        found = [place / file for file in _RUNTIMES[runtime] if (place / file).is_file()]
        if not found:
            raise OperatorError(
                f"{where}: names no file in parameters.uri, and its folder has no {' or '.join(_RUNTIMES[runtime])}."
            )
        place = found[0]
    return Source(place, origin, name, runtime)


def predicts_probabilities(source: Source) -> bool:
    """Return whether `predict` of MLServer's runtime answers with probabilities, as that of a booster does.

    Its runtime for XGBoost knows a classifier only by what scikit-learn's interface adds to the file.
    """
    if source.runtime.startswith("mlserver_xgboost"):
        content = source.file.read_bytes()
        if b"scikit_learn" in content:
            return False
        if b"multi:softmax" in content:
            raise OperatorError(
                f"{source.file.name}: MLServer answers labels of multi:softmax as floats; import it without --matrix."
            )
        return True
    return source.runtime.startswith("mlserver_lightgbm")


def _inside(folder: Path, name: str, where: str) -> Path:
    place = (folder / name.removeprefix("file://")).resolve()
    if not place.is_relative_to(folder.resolve()) or not place.exists():
        raise OperatorError(f"{where}: names {quoted(name)}, which is not in its folder; name the model file instead.")
    return place


def _unpickled(content: bytes, file: Path) -> Any:
    try:
        return import_module("joblib").load(io.BytesIO(content))
    except Exception as error:  # a pickle raises what its author likes
        if not content.startswith(_PICKLES):
            raise OperatorError(
                f"{file.name}: can't be opened as a pickle ({cause_of(error)}); supported are {SUPPORTED}."
            ) from error
        needed = error.name if isinstance(error, ModuleNotFoundError) else None
        what = f"the package of {needed}" if needed else "the versions that it was saved with"
        way_out = f"name {what} in requirements/import.in, then `make lock`"
        raise OperatorError(f"{file.name}: can't be opened ({cause_of(error)}); {way_out}.") from error


def cause_of(error: Exception) -> str:
    """Return the kind of an error and its first sentence."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {re.split(r'(?<=[.!?]) ', text, maxsplit=1)[0].rstrip('.')[:200]}"


def _rebuilt(model: Any, file: Path) -> Any:
    """Return a booster, or an estimator that no converter knows by its own class, as one that converts."""
    kind = f"{type(model).__module__.partition('.')[0]}.{type(model).__name__}"
    if kind in ("xgboost.XGBRFClassifier", "xgboost.XGBRFRegressor", "xgboost.XGBRanker"):
        return _xgboost(bytes(model.get_booster().save_raw("ubj")), file)
    if kind == "xgboost.Booster":
        return _xgboost(bytes(model.save_raw("ubj")), file)
    if kind == "lightgbm.Booster":
        return _lightgbm(model.model_to_string().encode(), file)
    return model


def _classifies(library: str, objective: str, file: Path) -> bool:
    """Return whether models of an objective answer with classes."""
    if objective in _CLASSIFY[library]:
        return True
    if not _REGRESS[library].fullmatch(objective):
        raise OperatorError(
            f"{file.name}: was trained for the objective {quoted(objective)}, which can't be imported; supported are "
            f"{', '.join(_CLASSIFY[library])} and regression."
        )
    return False


def _xgboost(content: bytes, file: Path) -> Any:
    xgboost = import_module("xgboost")
    booster = xgboost.Booster()
    booster.load_model(bytearray(content))
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    if objective == "multi:softmax":  # the same trees, whose converter knows the other objective only
        booster.set_param({"objective": "multi:softprob"})
    booster.set_attr(scikit_learn=None)  # else only the class that saved it opens it
    model = xgboost.XGBClassifier() if _classifies("xgboost", objective, file) else xgboost.XGBRegressor()
    model.load_model(booster.save_raw("ubj"))
    return model


def _lightgbm(content: bytes, file: Path) -> Any:
    """Put a booster into an estimator as its own `fit` does; LightGBM has no function for that."""
    lightgbm, preprocessing = import_module("lightgbm"), import_module("sklearn.preprocessing")
    text = content.decode()
    header: Mapping[str, str] = dict(re.findall(r"^(\w+)=(.*)$", text.partition("\nTree=")[0], re.MULTILINE))
    objective = header.get("objective", "none").partition(" ")[0]
    classifies = _classifies("lightgbm", objective, file)
    model = lightgbm.LGBMClassifier() if classifies else lightgbm.LGBMRegressor()
    model._Booster = lightgbm.Booster(model_str=text)
    model._n_features = model._n_features_in = model._Booster.num_feature()
    model._objective, model.fitted_ = objective, True
    if classifies:
        model._classes = np.arange(max(2, int(header["num_class"])))
        model._n_classes = len(model._classes)
        model._le = preprocessing.LabelEncoder().fit(model._classes)
    return model


def _catboost(_content: bytes, file: Path) -> Any:
    catboost = import_module("catboost")
    classifier = catboost.CatBoostClassifier().load_model(str(file))
    return classifier if len(classifier.classes_) else catboost.CatBoostRegressor().load_model(str(file))


def _skops(content: bytes, file: Path) -> Any:
    """Open a file of skops with every type in it: this process is where a file may run code."""
    skops = import_module("skops.io")
    return _rebuilt(skops.loads(content, trusted=skops.get_untrusted_types(data=content)), file)


_READERS: Mapping[bytes, tuple[str, Callable[[bytes, Path], Any]]] = {
    b"{": ("XGBoost", _xgboost),
    b"tree\n": ("LightGBM", _lightgbm),
    b"CBM1": ("CatBoost", _catboost),
    b"PK\x03\x04": ("skops", _skops),
}
"""How the files of other formats begin, and what opens them."""

_PROGRAMS = (b"PK\x03\x04",)
"""Those that may hold code: the types in a file of skops are whatever its author chose."""
