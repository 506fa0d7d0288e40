"""Models in their library's format: packed by `make train`, loaded by the server."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from serving.adapters.runtime import load_runtime
from serving.adapters.runtime.python import settings as configured
from serving.adapters.runtime.python.packed import Description, pack, unpack
from serving.adapters.runtime.python.settings import RuntimeSettings, runtime_settings
from serving.domain.artifacts import Artifact, GoldenRows, Manifest
from serving.domain.errors import ArtifactError, InvalidRequest, OperatorError, SettingsError
from serving.domain.features import Derived, Entity, Feature, FeatureSet, Operation
from serving.domain.lineage import Lineage
from serving.domain.tensors import Datatype, Tensors
from serving.modeling import Answer, Dataset, Fitted, Output
from serving.offline.estimators import answers
from serving.offline.exporting import export_model
from serving.offline.user_model import Training

FEATURES = FeatureSet(
    Entity("key"),
    (),
    (Feature("size"), Feature("colour", datatype=Datatype.TEXT), Feature("corner", shape=(2,)), Feature("weight")),
    (Derived("density", Operation.DIVIDE, "weight", "size"),),
)
OUTPUTS = (
    Output("kind", Answer.LABEL, Datatype.TEXT),
    Output("probabilities", Answer.PROBABILITIES, shape=(2,)),
    Output("round", Answer.PROBABILITIES, of="round"),
)
ROWS = 40
Trusts = Callable[..., None]


def rows() -> Dataset:
    drawn = np.random.default_rng(7)
    columns: dict[str, Any] = {
        "size": drawn.uniform(1, 2, ROWS).astype(np.float32),
        "colour": np.array(["rot", "grün"] * (ROWS // 2), object),
        "corner": drawn.normal(size=(ROWS, 2)).astype(np.float32),
        "weight": drawn.uniform(1, 2, ROWS).astype(np.float32),
    }
    columns |= FEATURES.derive(columns)
    target = np.where(columns["density"] > 1, "round", "square").astype(object)
    return Dataset(tuple(map(str, range(ROWS))), np.zeros(ROWS, np.int64), columns, target)


def trained(estimator: Any) -> Training:
    """Fit an estimator on columns of each kind."""
    data = rows()
    columns = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["colour"]),
        (StandardScaler(), ["size", "corner_0", "corner_1", "density"]),
    )
    return Training(FEATURES, OUTPUTS, data, Fitted(make_pipeline(columns, estimator).fit(data.frame(), data.target)))


def artifact(model: bytes, outputs: tuple[Output, ...] = OUTPUTS) -> Artifact:
    manifest = Manifest("shapes", "python", FEATURES, tuple(output.spec for output in outputs))
    return Artifact(f"sha256={'0' * 64}", manifest, model, GoldenRows((), {}, {}), Lineage())


def inputs() -> dict[str, Any]:
    """Return all rows as a server gets them, in another order than they are declared."""
    columns = rows().columns
    return {
        "weight": columns["weight"],
        "corner": columns["corner"],
        "colour": np.frompyfunc(str.encode, 1, 1)(columns["colour"]),
        "size": columns["size"],
    }


@pytest.fixture
def trusts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Trusts:
    """Write config/runtime.toml of the folder."""
    (folder / "config").mkdir()
    monkeypatch.chdir(folder)

    def write(trusted: tuple[str, ...] = (), *, accept_pickle: bool = False) -> None:
        pickles = str(accept_pickle).lower()
        (folder / configured.CONFIG).write_text(f"trusted = {json.dumps(trusted)}\naccept_pickle = {pickles}\n")

    write()
    return write


async def served(model: bytes) -> Tensors:
    runtime = load_runtime(artifact(model), threads=1)
    try:
        return await runtime.predict(inputs(), timeout=60)
    finally:
        await runtime.close()


async def test_text_arrays_and_derived_features_are_answered_as_the_estimator_answers_itself(trusts: Trusts) -> None:
    training = trained(LogisticRegression())
    own = answers(training.fitted.estimator, OUTPUTS, training.data.frame())
    answered = await served(export_model(training))
    assert [label.decode() for label in answered["kind"]] == own["kind"].tolist()
    for name in ("probabilities", "round"):
        assert answered[name].dtype == np.float32
        np.testing.assert_array_equal(answered[name], own[name])


@pytest.mark.parametrize("estimator", [LogisticRegression, lambda: RandomForestClassifier(3, random_state=1)])
def test_the_same_training_gives_the_same_bytes(trusts: Trusts, estimator: Callable[[], Any]) -> None:
    trusts(("sklearn.tree._tree.Tree",))
    first, second = (export_model(trained(estimator())) for _ in range(2))
    assert first == second


async def test_a_numbered_classifier_answers_with_the_names_of_its_classes(trusts: Trusts) -> None:
    data = rows()
    target = (data.target == "round").astype(np.int64)
    estimator = LogisticRegression().fit(data.frame()[["size", "density"]].to_numpy(), target)
    named = (Output("kind", Answer.LABEL, Datatype.TEXT, labels=("square", "round")),)
    features = FeatureSet(Entity("key"), (), (Feature("size"), Feature("density")))
    model = export_model(Training(features, named, data, Fitted(estimator)))
    manifest = replace(artifact(model, named).manifest, features=features)
    runtime = load_runtime(replace(artifact(model, named), manifest=manifest), threads=1)
    columns = {name: data.columns[name] for name in ("size", "density")}
    with pytest.warns(UserWarning, match="feature names"):  # it was fitted on a matrix
        answered = await runtime.predict(columns, timeout=60)
    await runtime.close()
    assert set(answered["kind"].tolist()) == {b"square", b"round"}


async def test_text_that_is_not_utf_8_is_refused(trusts: Trusts) -> None:
    runtime = load_runtime(artifact(export_model(trained(LogisticRegression()))), threads=1)
    with pytest.raises(InvalidRequest, match="input 'colour': an element is not UTF-8"):
        await runtime.predict({**inputs(), "colour": np.array([b"\xff"] * ROWS, object)}, timeout=60)
    await runtime.close()


async def test_a_type_that_nobody_reviewed_is_neither_saved_nor_built(trusts: Trusts) -> None:
    forest = trained(RandomForestClassifier(3, random_state=1))
    with pytest.raises(OperatorError, match=r"holds sklearn\.tree\._tree\.Tree, .* add it to `trusted`"):
        export_model(forest)
    trusts(("sklearn.tree._tree.Tree",))
    model = export_model(forest)
    assert len((await served(model))["kind"]) == ROWS
    trusts()
    with pytest.raises(ArtifactError, match=r"sklearn\.tree\._tree\.Tree, which `trusted` in .* does not name"):
        load_runtime(artifact(model), threads=1)


class Constant:
    """An estimator of no library."""

    def predict(self, rows: Any) -> Any:
        return np.zeros(len(rows))


def test_what_has_no_format_is_refused_unless_pickles_are_accepted(trusts: Trusts) -> None:
    output = (Output("answer"),)
    with pytest.raises(OperatorError, match=r"Constant can only be pickled, and.*docs/runtime\.md lists"):
        export_model(Training(FEATURES, output, rows(), Fitted(Constant())))


async def test_a_pickle_is_opened_only_where_it_is_accepted(trusts: Trusts, tmp_path: Path) -> None:
    import pickle

    from serving.adapters.runtime.python.pickled import PYTHON

    ask = unpack(export_model(trained(LogisticRegression())))[0].asks
    pickled = pickle.dumps(trained(LogisticRegression()).fitted.estimator)
    model = pack(Description("pickle", ask, ("round", "square"), PYTHON), pickled)
    with pytest.raises(ArtifactError, match="is a pickle, and config/runtime.toml accepts none"):
        load_runtime(artifact(model), threads=1)
    trusts(accept_pickle=True)
    assert len((await served(model))["kind"]) == ROWS
    other = pack(Description("pickle", ask, ("round", "square"), "3.9"), pickled)
    with pytest.raises(ArtifactError, match=r"was pickled by Python 3\.9, and this is"):
        load_runtime(artifact(other), threads=1)


@pytest.mark.parametrize(
    ("description", "content", "reason"),
    [
        (Description("theano", ()), b"", "was written by 'theano'; this repo reads sklearn, xgboost"),
        (Description("sklearn", ()), b"nothing", "sklearn refuses the model"),
        (Description("catboost", ()), b"", "needs the package of catboost; add it to model/requirements.in"),
    ],
)
def test_a_model_that_cannot_be_opened_says_why(
    trusts: Trusts, description: Description, content: bytes, reason: str
) -> None:
    with pytest.raises(ArtifactError, match=reason):
        load_runtime(artifact(pack(description, content)), threads=1)


@pytest.mark.parametrize("content", [b"", b"PK", b"{}"])
def test_what_was_not_packed_is_refused(content: bytes) -> None:
    with pytest.raises(ArtifactError, match="is no packed model"):
        unpack(content)


def test_a_compressed_model_is_refused() -> None:
    target = BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("model.json", json.dumps({"library": "sklearn", "asks": []}))
        packed.writestr("model", b"0" * 1000)
    with pytest.raises(ArtifactError, match="its entries are compressed; train it again"):
        unpack(target.getvalue())


def test_a_packed_model_has_no_dates() -> None:
    with zipfile.ZipFile(BytesIO(pack(Description("sklearn", ()), b"model"))) as packed:
        assert {entry.date_time for entry in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("trusted = 1", "trusted: "),
        ("accept_pickle = 3", "accept_pickle: "),
        ("accept_pickles = true", "'accept_pickles' is no setting; remove it"),
        ("trusted", "can't be read"),
    ],
)
def test_a_wrong_setting_is_named(trusts: Trusts, folder: Path, text: str, reason: str) -> None:
    (folder / configured.CONFIG).write_text(text)
    with pytest.raises(SettingsError, match=reason):
        runtime_settings()


def test_the_defaults_trust_nothing() -> None:
    assert RuntimeSettings() == RuntimeSettings(trusted=(), accept_pickle=False)
