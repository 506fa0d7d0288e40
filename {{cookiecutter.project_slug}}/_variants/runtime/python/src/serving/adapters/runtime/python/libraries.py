"""Save and load models, each in the native format of its library.

A library is imported when one of its models is saved or loaded: only one of them is in the server's image.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from serving.adapters.runtime.python import pickled, skops_files
from serving.adapters.runtime.python.packed import without_dates
from serving.adapters.runtime.python.settings import Opening, RuntimeSettings
from serving.domain.tensors import Tensor


class Estimator(Protocol):
    """What a loaded model can do; a regressor has no probabilities."""

    def predict(self, rows: Any) -> Any:
        """Return the predictions or labels."""

    def predict_proba(self, rows: Any) -> Any:
        """Return a probability per class."""


@dataclass(frozen=True)
class Library:
    """Save and load the models of one library; `takes_frame` if they take a DataFrame, not a matrix."""

    save: Callable[[Any, RuntimeSettings], bytes]
    load: Callable[[bytes, Opening], Estimator]
    takes_frame: bool = False


@dataclass(frozen=True)
class Wrapped:
    """Give a booster, or a network, the interface of scikit-learn; without `classes` it is a regressor."""

    answer: Callable[[Tensor], Any]
    classes: tuple[int | str, ...] = ()

    def predict(self, rows: Tensor) -> Tensor:
        """Return the predictions or the most probable labels."""
        if not self.classes:
            return np.asarray(self.answer(rows))
        labels: Tensor = np.array(self.classes)[np.argmax(self.predict_proba(rows), axis=1)]
        return labels

    def predict_proba(self, rows: Tensor) -> Tensor:
        """Return a probability per class; a library that answers with one number means the second class."""
        answered: Tensor = np.asarray(self.answer(rows))
        if answered.ndim == 1 or answered.shape[1] == 1:
            second = answered.reshape(-1)
            return np.stack([1 - second, second], axis=1)
        return answered


def _save_xgboost(estimator: Any, _: RuntimeSettings) -> bytes:
    return bytes(estimator.get_booster().save_raw("ubj"))


def _load_xgboost(content: bytes, opening: Opening) -> Estimator:
    import xgboost

    booster = xgboost.Booster(params={"nthread": opening.threads})
    booster.load_model(bytearray(content))
    return Wrapped(lambda rows: booster.inplace_predict(rows, validate_features=False), opening.description.classes)


def _save_lightgbm(estimator: Any, _: RuntimeSettings) -> bytes:
    return str(estimator.booster_.model_to_string()).encode()


def _load_lightgbm(content: bytes, opening: Opening) -> Estimator:
    import lightgbm

    booster = lightgbm.Booster(model_str=content.decode(), params={"num_threads": opening.threads})
    return Wrapped(lambda rows: booster.predict(rows, num_threads=opening.threads), opening.description.classes)


def _save_catboost(estimator: Any, _: RuntimeSettings) -> bytes:
    saved = estimator.copy()
    for name in {"model_guid", "train_finish_time"}.intersection(saved.get_metadata().keys()):
        saved.get_metadata()[name] = ""  # else each training gives another digest
    with tempfile.TemporaryDirectory() as folder:
        saved.save_model(str(Path(folder, "model.cbm")))
        return Path(folder, "model.cbm").read_bytes()


def _load_catboost(content: bytes, opening: Opening) -> Estimator:
    import catboost

    kind = catboost.CatBoostClassifier if opening.description.classes else catboost.CatBoostRegressor
    return kind().load_model(blob=content)  # type: ignore[no-any-return]


def _save_torch(estimator: Any, _: RuntimeSettings) -> bytes:
    import torch

    target = io.BytesIO()
    torch.export.save(estimator.exported_program(), target)
    return target.getvalue()


def _load_torch(content: bytes, opening: Opening) -> Estimator:
    import torch

    torch.set_num_threads(opening.threads)
    network = torch.export.load(io.BytesIO(content)).module()

    def answer(rows: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(torch.from_numpy(rows.astype(np.float32))).numpy()  # type: ignore[no-any-return]

    return Wrapped(answer, opening.description.classes)


def _save_keras(estimator: Any, _: RuntimeSettings) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        estimator.keras_model().save(str(Path(folder, "model.keras")))
        return without_dates(Path(folder, "model.keras").read_bytes())


def _load_keras(content: bytes, opening: Opening) -> Estimator:
    import keras

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.keras").write_bytes(content)
        network = keras.saving.load_model(str(Path(folder, "model.keras")), compile=False, safe_mode=True)
    return Wrapped(lambda rows: network(rows.astype(np.float32), training=False), opening.description.classes)


LIBRARIES: Mapping[str, Library] = {
    "sklearn": Library(skops_files.save, skops_files.load, takes_frame=True),
    "xgboost": Library(_save_xgboost, _load_xgboost),
    "lightgbm": Library(_save_lightgbm, _load_lightgbm),
    "catboost": Library(_save_catboost, _load_catboost),
    "torch": Library(_save_torch, _load_torch),
    "keras": Library(_save_keras, _load_keras),
    "pickle": Library(pickled.save, pickled.load, takes_frame=True),
}
