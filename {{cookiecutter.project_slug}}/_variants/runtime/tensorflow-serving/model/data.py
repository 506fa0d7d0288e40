"""The training data: 1,797 images of handwritten digits, bundled with scikit-learn.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (1998).

MNIST, which most introductions use, has larger images and must be downloaded. Synthetic, by a fixed rule from the
number of the row, are the keys (`digit-0001` is the first row) and the date.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from serving.modeling import Dataset

_BRIGHTEST = 16
_SCANNED = int(np.datetime64("1998-07-01", "s").astype(np.int64))


def load() -> Dataset:
    """Return the images, [rows, 8, 8, 1] with values from 0 to 1, and the digit that each shows."""
    source = load_digits()
    images = (source.images / _BRIGHTEST).astype(np.float32)[..., np.newaxis]
    keys = tuple(f"digit-{row:04d}" for row in range(1, len(images) + 1))
    return Dataset(keys, np.full(len(images), _SCANNED), {"image": images}, source.target.astype(np.int64))
