"""Networks of Keras with scikit-learn's interface, as training compares them and exports them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Network:
    """Hold a fitted Keras model that takes one FP32 matrix [rows, columns], in the order of `data.frame()`.

    It gives a probability per class [rows, classes], or with two classes that of the second [rows, 1]. Without
    `classes` it gives predictions.
    """

    model: Any
    classes: tuple[int | str, ...] = ()

    @property
    def classes_(self) -> tuple[int | str, ...] | None:
        """The classes in the order of the probabilities; None for a regressor."""
        return self.classes or None

    def keras_model(self) -> Any:
        """Return the Keras model."""
        return self.model

    def predict(self, rows: Any) -> npt.NDArray[Any]:
        """Return the predictions, or the most probable class of each row."""
        if not self.classes:
            return self._answer(rows)
        labels: npt.NDArray[Any] = np.array(self.classes)[np.argmax(self.predict_proba(rows), axis=1)]
        return labels

    def predict_proba(self, rows: Any) -> npt.NDArray[Any]:
        """Return a probability per class."""
        given = self._answer(rows)
        return np.concatenate([1 - given, given], axis=1) if given.shape[1] == 1 else given

    def _answer(self, rows: Any) -> npt.NDArray[Any]:
        return np.asarray(self.model(np.asarray(rows, np.float32), training=False))
