"""The models that every server serves, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Predict = Callable[[Array], Array]
"""Returns a number, or one per class, for each row."""

LINEAR, FOREST, IMAGE = "linear", "forest", "image"
NAME = "served"
"""The name under which every server serves its model."""
IMAGE_SHAPE = (224, 224, 3)
MODELS = {
    LINEAR: "logistic regression on the four numbers of an iris",
    FOREST: "random forest of 100 trees on the same numbers",
    IMAGE: "the mean of an image, [1, 224, 224, 3] FP32, 602 kB",
}


def callers_of(model: str) -> tuple[int, ...]:
    """Return the numbers of callers with which a model is measured."""
    return (1, 8) if model == IMAGE else (1, 8, 64)
