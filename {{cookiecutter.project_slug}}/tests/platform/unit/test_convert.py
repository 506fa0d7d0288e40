"""The exported graph answers as the estimator does, for every kind of input and output."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC

from serving.domain.errors import OperatorError
from serving.domain.features import Derived, Entity, Feature, FeatureSet, Operation
from serving.domain.tensors import Datatype
from serving.modeling import Answer, Dataset, Output
from serving.offline.convert import to_onnx
from serving.offline.converters import libraries, summary
from serving.offline.estimators import answers
from serving.offline.rows import prepared

ROWS = 200
FEATURES = FeatureSet(
    Entity("key"),
    (),
    (
        Feature("age"),
        Feature("dose", datatype=Datatype.FP64, allow_nan=True),
        Feature("visits", datatype=Datatype.INT64),
        Feature("smoker", datatype=Datatype.BOOL),
        Feature("size", shape=(2,)),
        Feature("city", datatype=Datatype.TEXT),
    ),
    (Derived("age_squared", Operation.MULTIPLY, "age", "age"),),
)
NUMBERS = FeatureSet(FEATURES.entity, (), FEATURES.real_time[:-1], FEATURES.derived)


def rows(features: FeatureSet) -> Dataset:
    """Return rows from which each of the targets below can be learnt."""
    source = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "age": source.normal(50, 10, ROWS),
        "dose": source.normal(1, 0.2, ROWS),
        "visits": source.integers(0, 9, ROWS),
        "smoker": source.random(ROWS) < 0.3,
        "size": source.normal(10, 2, (ROWS, 2)),
        "city": source.choice(["Bern", "Basel", "Chur"], ROWS),
    }
    columns["dose"][::7] = np.nan
    names = [feature.name for feature in features.model_inputs]
    target = columns["age"] + 4 * columns["visits"] + 9 * (columns["city"] == "Bern")
    keys = tuple(map(str, range(ROWS)))
    return prepared(Dataset(keys, np.arange(ROWS), {name: columns[name] for name in names}, target), features)


def labels(data: Dataset, *names: Any) -> Any:
    """Cut the target into as many classes of the same size as there are names."""
    cuts = np.quantile(data.target, np.arange(1, len(names)) / len(names))
    return np.array(names, object if isinstance(names[0], str) else None)[np.digitize(data.target, cuts)]


def by_columns(*steps: Any) -> Any:
    text = ("text", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"])
    code = ("code", OrdinalEncoder(), ["visits"])
    return make_pipeline(ColumnTransformer([text, code], remainder=SimpleImputer()), *steps)


def check(estimator: Any, features: FeatureSet, data: Dataset, outputs: Sequence[Output]) -> None:
    """Convert, run and compare every row."""
    frame = data.frame()
    expected = answers(estimator, outputs, frame)
    session = onnxruntime.InferenceSession(
        to_onnx(estimator, features, outputs, frame), providers=["CPUExecutionProvider"]
    )
    assert [node.name for node in session.get_inputs()] == [feature.name for feature in features.model_inputs]
    feed = {feature.name: data.columns[feature.name] for feature in features.model_inputs}
    names = [features.graph_output(output.name) for output in outputs]
    for output, values in zip(outputs, session.run(names, feed), strict=True):
        assert values.shape == (ROWS, *output.shape)
        if output.datatype.is_float:
            assert values.dtype == output.datatype.dtype
            np.testing.assert_allclose(values, expected[output.name], rtol=1e-4, atol=1e-6)
        else:
            np.testing.assert_array_equal(values, expected[output.name])


REGRESSORS = [
    (make_pipeline(SimpleImputer(), StandardScaler(), Ridge()), NUMBERS),
    (GridSearchCV(by_columns(Ridge()), {}, cv=2), FEATURES),
]


@pytest.mark.parametrize(("estimator", "features"), REGRESSORS)
@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.FP64])
def test_a_regressor_answers_a_number_per_row(estimator: Any, features: FeatureSet, datatype: Datatype) -> None:
    data = rows(features)
    check(estimator.fit(data.frame(), data.target), features, data, [Output("price", datatype=datatype)])


def test_a_regressor_may_answer_several_numbers_per_row() -> None:
    data = rows(NUMBERS)
    target = np.column_stack([data.target, -data.target])
    estimator = make_pipeline(SimpleImputer(), LinearRegression()).fit(data.frame(), target)
    check(estimator, NUMBERS, data, [Output("both", shape=(2,))])


@pytest.mark.parametrize(
    ("estimator", "features"),
    [
        (by_columns(StandardScaler(), LogisticRegression(max_iter=1000)), FEATURES),
        (by_columns(RandomForestClassifier(5, random_state=0)), FEATURES),
        (HistGradientBoostingClassifier(max_iter=5), NUMBERS),
    ],
)
def test_a_classifier_answers_labels_in_text_probabilities_and_that_of_one_class(
    estimator: Any, features: FeatureSet
) -> None:
    data = rows(features)
    estimator.fit(data.frame(), labels(data, "low", "middle", "high"))
    outputs = (
        Output("level", Answer.LABEL, Datatype.TEXT),
        Output("chances", Answer.PROBABILITIES, shape=(3,)),
        Output("chance", Answer.PROBABILITIES, of="high", datatype=Datatype.FP64),
    )
    check(estimator, features, data, outputs)


def test_an_output_may_be_a_column_and_have_the_name_of_an_input() -> None:
    data = rows(NUMBERS)
    estimator = make_pipeline(SimpleImputer(), Ridge()).fit(data.frame(), data.target)
    check(estimator, NUMBERS, data, [Output("age", datatype=Datatype.FP64, shape=(1,))])
    estimator = make_pipeline(SimpleImputer(), LogisticRegression(max_iter=1000)).fit(data.frame(), labels(data, 0, 1))
    outputs = (
        Output("size", Answer.LABEL, Datatype.INT64, shape=(1,)),
        Output("dose", Answer.PROBABILITIES, of=1, shape=(1,)),
    )
    check(estimator, NUMBERS, data, outputs)


def test_a_label_may_be_a_number_and_a_number_may_have_a_name() -> None:
    data = rows(FEATURES)
    estimator = by_columns(StandardScaler(), LogisticRegression()).fit(data.frame(), labels(data, 0, 1))
    outputs = (
        Output("code", Answer.LABEL, Datatype.INT32),
        Output("name", Answer.LABEL, Datatype.TEXT, labels=("no", "yes")),
    )
    check(estimator, FEATURES, data, outputs)


def test_features_may_have_the_names_that_a_converter_chooses_itself() -> None:
    names = ("matrix", "variable", "label", "probabilities", "input")
    features = FeatureSet(Entity("key"), (), tuple(map(Feature, names)))
    columns = {name: np.arange(float(ROWS)) for name in names}
    data = prepared(Dataset(tuple(map(str, range(ROWS))), np.arange(ROWS), columns, np.arange(ROWS)), features)
    check(LinearRegression().fit(data.frame(), data.target), features, data, [Output("estimator")])


class Weighing:
    """An estimator of a framework that no converter knows: it exports itself."""

    classes_ = ("low", "high")

    def __init__(self, width: int, opset: int = 21) -> None:
        self._weights = np.linspace(-1, 1, 2 * width, dtype=np.float32).reshape(width, 2)
        self._opset = opset

    def predict(self, frame: Any) -> Any:
        return np.array(self.classes_, object)[self.predict_proba(frame).argmax(axis=1)]

    def predict_proba(self, frame: Any) -> Any:
        return frame.to_numpy(np.float32) @ self._weights

    def to_onnx(self) -> bytes:
        node = helper.make_node("MatMul", ["rows", "weights"], ["chances"])
        graph = helper.make_graph(
            [node],
            "weighing",
            [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", len(self._weights)])],
            [helper.make_tensor_value_info("chances", TensorProto.FLOAT, ["n", 2])],
            [numpy_helper.from_array(self._weights, "weights")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)])
        return bytes(model.SerializeToString())


@pytest.mark.parametrize("opset", [17, 21])
def test_an_estimator_of_another_framework_brings_its_own_graph(opset: int) -> None:
    features = FeatureSet(Entity("key"), (), (Feature("age"), Feature("size", shape=(2,))))
    columns: dict[str, Any] = {"age": np.arange(float(ROWS)), "size": np.full((ROWS, 2), -90.0)}
    data = prepared(Dataset(tuple(map(str, range(ROWS))), np.arange(ROWS), columns, np.arange(ROWS)), features)
    outputs = [
        Output("level", Answer.LABEL, Datatype.TEXT),
        Output("both", Answer.PROBABILITIES, shape=(2,)),
        Output("high", Answer.PROBABILITIES, of="high"),
    ]
    check(Weighing(3, opset), features, data, outputs)


def test_an_own_graph_that_does_not_fit_is_refused() -> None:
    data = rows(NUMBERS)
    broken = Weighing(7)
    broken.to_onnx = lambda: b"no model"  # type: ignore[method-assign]
    with pytest.raises(OperatorError, match=r"Weighing.to_onnx\(\) must return the bytes of an ONNX model"):
        to_onnx(broken, NUMBERS, [Output("y", Answer.PROBABILITIES, shape=(2,))], data.frame())


def test_a_model_is_known_by_its_steps_and_libraries() -> None:
    data = rows(FEATURES)
    estimator = by_columns(Ridge()).fit(data.frame(), data.target)
    assert summary(estimator) == "ColumnTransformer, Ridge"
    assert libraries(estimator, ["numpy"]) == {name: metadata.version(name) for name in ("numpy", "scikit-learn")}


def plain(estimator: Any, target: Any = None) -> Any:
    data = rows(NUMBERS)
    pipeline = make_pipeline(SimpleImputer(), estimator)
    return pipeline.fit(data.frame(), labels(data, *target) if target else data.target)


LEVEL = Output("level", Answer.LABEL, Datatype.TEXT)


@pytest.mark.parametrize(
    ("estimator", "target", "output", "message"),
    [
        (Ridge(), None, LEVEL, "output level: Pipeline is no classifier; declare answer=Answer.PREDICTION."),
        (LogisticRegression(), ("a", "b"), Output("level"), "is a classifier; declare answer=Answer.LABEL"),
        (
            LogisticRegression(),
            (0, 1),
            LEVEL,
            "the labels are numbers such as '0', and it is declared TEXT; declare datatype=Datatype.INT64",
        ),
        (
            LogisticRegression(),
            ("a", "b"),
            Output("level", Answer.LABEL, Datatype.INT64),
            "the labels are text such as 'a', and it is declared INT64; declare datatype=Datatype.TEXT.",
        ),
        (
            LogisticRegression(),
            ("a", "b"),
            Output("p", Answer.PROBABILITIES, shape=(3,)),
            "the estimator answers [2] per row, and shape=(3,) is declared; declare shape=(2,).",
        ),
        (Ridge(), None, Output("p", shape=(2,)), "answers one number per row, and shape=(2,) is declared"),
        (
            LogisticRegression(),
            ("a", "b"),
            Output("p", Answer.PROBABILITIES, of="c"),
            "of='c' is no class; the classes are 'a', 'b'.",
        ),
        (LinearSVC(), ("a", "b"), Output("p", Answer.PROBABILITIES, of="a"), "has no predict_proba"),
        (
            LogisticRegression(),
            (1, 2),
            Output("level", Answer.LABEL, Datatype.TEXT, labels=("a", "b")),
            "labels=('a', 'b') name the classes 0, 1 ..., and these are [1, 2].",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_an_output_that_does_not_fit_its_estimator_is_refused_with_the_right_declaration(
    estimator: Any, target: Any, output: Output, message: str
) -> None:
    with pytest.raises(OperatorError) as refused:
        answers(plain(estimator, target), [output], rows(NUMBERS).frame())
    assert str(refused.value).startswith(f"model/estimator.py: output {output.name}")
    assert message in str(refused.value)


def test_an_estimator_of_fewer_columns_is_refused() -> None:
    with pytest.raises(OperatorError, match="Ridge was fitted on 1 columns, model/features.py declares 7"):
        answers(Ridge().fit([[1.0], [2.0]], [1.0, 2.0]), [Output("y")], rows(NUMBERS).frame())


def test_an_estimator_that_was_never_fitted_is_refused() -> None:
    with pytest.raises(OperatorError, match=r"Ridge.predict\(\) fails on the rows of data.frame\(\): NotFittedError: "):
        answers(Ridge(), [Output("y")], rows(NUMBERS).frame())


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp), "TransformedTargetRegressor can't be"),
        (make_pipeline(FunctionTransformer(np.abs), Ridge()), "FunctionTransformer is not supported unless"),
    ],
)
def test_what_no_converter_knows_is_named(estimator: Any, message: str) -> None:
    with pytest.raises(OperatorError, match=message) as refused:
        to_onnx(plain(estimator), NUMBERS, [Output("y")], rows(NUMBERS).frame())
    assert str(refused.value).startswith("model/estimator.py: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"answer": Answer.LABEL}, "a label is no FP32; declare Datatype.TEXT or INT64"),
        ({"of": "a"}, "`of` needs answer=Answer.PROBABILITIES and no shape"),
        ({"answer": Answer.LABEL, "datatype": Datatype.INT64, "labels": ("a",)}, "`labels` needs answer=Answer.LABEL"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"output y: {message}"):
        Output("y", **arguments)
