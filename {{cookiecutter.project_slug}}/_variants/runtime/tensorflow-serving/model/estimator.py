"""The estimator: a small convolutional network, what it answers, and how it is fitted."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # else the same data gives another model on another CPU

import keras
import numpy as np
import tensorflow as tf

from serving.modeling import Answer, Dataset, Datatype, Fitted, Output
from serving.modeling.networks import Network

SEED = 7
EPOCHS = 12
DIGITS = tuple(range(10))

OUTPUTS = (
    Output("digit", Answer.LABEL, Datatype.INT64, description="The digit that the image shows"),
    Output("probabilities", Answer.PROBABILITIES, shape=(10,), description="A probability for each digit, 0 to 9"),
)


def fit(data: Dataset) -> Fitted:
    """Fit on 80 % of the images, measure on the rest."""
    train, test = data.split(test_share=0.2, seed=SEED)
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    network = keras.Sequential(
        [
            keras.Input((64,)),  # the columns of one image, row by row
            keras.layers.Reshape((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(len(DIGITS), activation="softmax"),
        ]
    )
    network.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    network.fit(train.frame().to_numpy(), train.target, epochs=EPOCHS, batch_size=32, verbose=0)
    estimator = Network(network, DIGITS)
    right = estimator.predict(test.frame()) == test.target
    return Fitted(estimator, parameters={"epochs": EPOCHS, "seed": SEED}, metrics={"accuracy": float(np.mean(right))})
