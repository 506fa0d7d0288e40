from __future__ import annotations

import numpy as np

from model.data import load
from model.estimator import fit
from serving.offline import user_model


def test_each_image_is_eight_by_eight_with_values_from_zero_to_one() -> None:
    images = load().columns["image"]
    assert images.shape == (1797, 8, 8, 1)
    assert (images.min(), images.max()) == (0, 1)


def test_the_data_is_the_same_each_time() -> None:
    np.testing.assert_array_equal(load().columns["image"], load().columns["image"])


def test_the_model_reads_nine_of_ten_digits() -> None:
    assert fit(user_model.dataset()).metrics["accuracy"] > 0.9
