"""Export a trained network as a SavedModel: its signature has an input per feature, an output per declared output."""

from __future__ import annotations

import importlib
import keyword
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from serving.adapters.runtime.tensorflow_serving.saved_model import pack
from serving.domain.errors import OperatorError, quoted
from serving.domain.features import FeatureSet, Operation
from serving.modeling.outputs import Answer, Output
from serving.offline.estimators import class_index, class_names
from serving.offline.user_model import Training

FORMAT = "savedmodel"
LIBRARIES = ("keras", "numpy", "tensorflow-cpu")
"""Packages whose versions are part of each lineage, besides those that the estimator comes from."""

_WHERE = "model/estimator.py"


def export_model(training: Training) -> bytes:
    """Return the model's file.

    :raises OperatorError: the estimator has no network, TensorFlow refuses it, or a feature can't be an input
    """
    estimator, features = training.fitted.estimator, training.features
    if not hasattr(estimator, "keras_model"):
        raise OperatorError(
            f"{_WHERE}: {type(estimator).__name__} holds no Keras model; return a Network of serving.modeling.networks."
        )
    texts = [feature.name for feature in features.model_inputs if feature.datatype.holds_bytes]
    if texts:
        raise OperatorError(f"model/features.py: feature {texts[0]} is text, and a network takes numbers; encode it.")
    reserved = [f.name for f in features.model_inputs if f.name == "self" or keyword.iskeyword(f.name)]
    if reserved:
        raise OperatorError(f"model/features.py: TensorFlow takes no input called {reserved[0]}; rename the feature.")
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder, "network.keras")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Keras's own: it calls NumPy as it was
            estimator.keras_model().save(network)
        # In a new process: TensorFlow numbers its functions, and the same network must give the same digest.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            saved = process.submit(_saved, network, features, training.outputs, class_names(estimator))
            try:
                return saved.result()
            except OperatorError:
                raise
            except Exception as error:  # TensorFlow and Keras raise their own and many others
                cause = str(error).strip().partition("\n")[0]
                raise OperatorError(
                    f"{_WHERE}: the network can't be exported: {type(error).__name__}: {quoted(cause, 200)}. "
                    "Layers of your own must be defined or imported there."
                ) from error


def _saved(network: Path, features: FeatureSet, outputs: Sequence[Output], classes: list[Any] | None) -> bytes:
    """Return a network as a SavedModel."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import tensorflow as tf

    # Layers of the user's own are found by name. This repo wrote them, so a lambda is as safe as the code around it.
    own = {name: value for name, value in vars(importlib.import_module("model.estimator")).items() if callable(value)}
    module = tf.Module()
    # An attribute, so that its variables are saved.
    module.network = keras.saving.load_model(network, custom_objects=own, compile=False, safe_mode=False)
    signature = _signature(tf, module.network, features, outputs, classes)
    target = network.with_name("saved_model")
    tf.saved_model.save(module, str(target), signatures={"serving_default": signature})
    return pack(target)


def _signature(
    tf: Any, network: Any, features: FeatureSet, outputs: Sequence[Output], classes: list[Any] | None
) -> Any:
    operations = {
        Operation.ADD: tf.add,
        Operation.SUBTRACT: tf.subtract,
        Operation.MULTIPLY: tf.multiply,
        Operation.DIVIDE: tf.divide,
    }

    def answer(given: dict[str, Any]) -> dict[str, Any]:
        columns = dict(given)
        for derived in features.derived:
            columns[derived.name] = operations[derived.operation](columns[derived.left], columns[derived.right])
        names = [feature.name for feature in features.model_inputs] + [derived.name for derived in features.derived]
        widths = {feature.name: feature.spec.row_elements for feature in features.model_inputs}
        wide = [tf.reshape(tf.cast(columns[name], tf.float32), [-1, widths.get(name, 1)]) for name in names]
        answered = network(tf.concat(wide, axis=1), training=False)
        if classes is not None and answered.shape[-1] == 1:  # one number: the second class
            answered = tf.concat([1 - answered, answered], axis=1)
        return {output.name: _output(tf, output, answered, classes) for output in outputs}

    # One argument that holds all columns: a keyword can't be called `input-0` or `class`.
    return tf.function(answer).get_concrete_function(
        {
            feature.name: tf.TensorSpec([None, *feature.shape], tf.as_dtype(feature.datatype.dtype), feature.name)
            for feature in features.model_inputs
        }
    )


def _output(tf: Any, output: Output, given: Any, classes: list[Any] | None) -> Any:
    if output.answer is Answer.LABEL:
        given = tf.gather(tf.constant(list(output.labels) or classes), tf.argmax(given, axis=1))
    elif output.of is not None:
        given = given[:, class_index(output, classes or [])]
    typed = given if output.datatype.holds_bytes else tf.cast(given, tf.as_dtype(output.datatype.dtype))
    return tf.reshape(typed, [-1, *output.shape])
