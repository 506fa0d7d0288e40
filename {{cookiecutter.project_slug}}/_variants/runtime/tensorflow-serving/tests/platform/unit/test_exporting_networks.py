"""Networks, exported with an input per feature and an output per declared output."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import keras
import tensorflow as tf

from serving.adapters.runtime.tensorflow_serving.saved_model import unpack
from serving.domain.errors import OperatorError
from serving.domain.features import Derived, Entity, Feature, FeatureSet, Operation
from serving.domain.tensors import Datatype
from serving.modeling import Answer, Dataset, Fitted, Output
from serving.modeling.networks import Network
from serving.offline.estimators import answers
from serving.offline.exporting import export_model
from serving.offline.user_model import Training

ROWS = 5
FEATURES = FeatureSet(
    Entity("key"),
    (),
    (Feature("size"), Feature("count", datatype=Datatype.INT64), Feature("corner", shape=(2,))),
    (Derived("area", Operation.MULTIPLY, "size", "size"),),
)
CLASSES = (
    Output("kind", Answer.LABEL, Datatype.TEXT),
    Output("probabilities", Answer.PROBABILITIES, shape=(3,)),
    Output("round", Answer.PROBABILITIES, of="round"),
)


def training(classes: tuple[str, ...], outputs: tuple[Output, ...], width: int) -> Training:
    drawn = np.random.default_rng(1)
    columns: dict[str, Any] = {
        "size": drawn.normal(size=ROWS).astype(np.float32),
        "count": np.arange(ROWS),
        "corner": drawn.normal(size=(ROWS, 2)).astype(np.float32),
    }
    columns |= FEATURES.derive(columns)
    keras.utils.set_random_seed(1)
    last = "softmax" if width > 1 else "sigmoid" if classes else None
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(width, activation=last)])
    data = Dataset(tuple("abcde"), np.zeros(ROWS, np.int64), columns, np.zeros(ROWS))
    return Training(FEATURES, outputs, data, Fitted(Network(network, classes)))


def answered(trained: Training, folder: Path) -> dict[str, Any]:
    """Return the exported model's answers, as TensorFlow gives them."""
    unpack(export_model(trained), folder / "1")
    function = tf.saved_model.load(str(folder / "1")).signatures["serving_default"]
    columns = {feature.name: tf.constant(trained.data.columns[feature.name]) for feature in FEATURES.model_inputs}
    return {name: value.numpy() for name, value in function(**columns).items()}


@pytest.mark.parametrize(
    ("classes", "outputs", "width"),
    [
        (("flat", "round", "square"), CLASSES, 3),
        (("flat", "round"), (CLASSES[0], replace(CLASSES[1], shape=(2,)), CLASSES[2]), 1),
        ((), (Output("answer"), Output("again", datatype=Datatype.FP64)), 1),
        ((), (Output("answer", shape=(4,)),), 4),
    ],
)
def test_the_saved_model_answers_as_the_network_itself(
    folder: Path, classes: tuple[str, ...], outputs: tuple[Output, ...], width: int
) -> None:
    trained = training(classes, outputs, width)
    own = answers(trained.fitted.estimator, outputs, trained.data.frame())
    exported = answered(trained, folder)
    for output in outputs:
        if output.datatype is Datatype.TEXT:
            assert [text.decode() for text in exported[output.name]] == own[output.name].tolist()
        else:
            assert exported[output.name].dtype == output.datatype.dtype
            np.testing.assert_allclose(exported[output.name], own[output.name], rtol=1e-5)


def test_another_estimator_is_refused_with_what_to_return() -> None:
    trained = training((), (Output("answer"),), 1)
    with pytest.raises(OperatorError, match=r"dict holds no Keras model; return a Network of serving\.modeling"):
        export_model(replace(trained, fitted=Fitted({})))


def test_a_network_may_have_layers_of_its_own_code(folder: Path) -> None:
    double = keras.layers.Lambda(lambda values: values * 2)
    network = keras.Sequential([keras.Input((5,)), double, keras.layers.Dense(1)])
    trained = replace(training((), (Output("answer"),), 1), fitted=Fitted(Network(network)))
    own = answers(trained.fitted.estimator, trained.outputs, trained.data.frame())
    np.testing.assert_allclose(answered(trained, folder)["answer"], own["answer"], rtol=1e-5)


class Unknown(keras.layers.Layer):
    """A layer that model/estimator.py neither defines nor imports."""


def test_a_layer_that_can_not_be_found_is_refused_with_where_it_belongs() -> None:
    network = keras.Sequential([keras.Input((5,)), Unknown()])
    trained = training((), (Output("answer", shape=(5,)),), 5)
    with pytest.raises(OperatorError, match="the network can't be exported: TypeError: .* defined or imported there"):
        export_model(replace(trained, fitted=Fitted(Network(network))))


@pytest.mark.parametrize("name", ["class", "self"])
def test_a_name_that_tensorflow_can_not_take_is_refused(name: str) -> None:
    named = FeatureSet(Entity("key"), (), (Feature(name),))
    with pytest.raises(OperatorError, match=f"TensorFlow takes no input called {name}; rename the feature"):
        export_model(replace(training((), (Output("answer"),), 1), features=named))


def test_a_feature_may_have_a_name_that_is_no_identifier(folder: Path) -> None:
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    named = FeatureSet(Entity("key"), (), (Feature("input-0"),))
    given = training((), (Output("answer"),), 1)
    data = Dataset(given.data.entities, given.data.times, {"input-0": np.ones(ROWS, np.float32)}, given.data.target)
    unpack(export_model(replace(given, features=named, data=data, fitted=Fitted(Network(network)))), folder / "1")
    described = tf.saved_model.load(str(folder / "1")).signatures["serving_default"]
    assert described(**{"input-0": tf.ones(2)})["answer"].shape == (2,)


def test_a_text_feature_is_refused_by_name() -> None:
    texts = FeatureSet(Entity("key"), (), (Feature("colour", datatype=Datatype.TEXT),))
    with pytest.raises(OperatorError, match="feature colour is text, and a network takes numbers"):
        export_model(replace(training((), (Output("answer"),), 1), features=texts))
