"""A model that exists already becomes a version of a generated repo."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from local_extensions import ROOT_FOLDER
from tests.support import ROOT, Repo, blocks, generate, run
from tools.environment import Environment

pytestmark = pytest.mark.long

TOKEN = "a-token-that-no-pickle-may-see"  # noqa: S105
# What Neptune's exporter writes of one version, by its source: it is on no package index, so none was at hand.
EXPORT = """
import hashlib, json, pathlib, shutil
import pyarrow, pyarrow.parquet

kept = pathlib.Path("registry/diabetes-progression/1")
project, version = "team/serving", "SRV-DIABETESPROGRESSION-7"
folder = f"team_serving-{hashlib.blake2b(project.encode(), digest_size=8).hexdigest()}"
files = pathlib.Path("export/files", folder, "model_versions", version, "artifact")
files.mkdir(parents=True)
rows = [("serving/digest", "string", json.loads((kept / "record.json").read_text())["digest"], None)]
for file in (kept / "artifact").iterdir():
    shutil.copy(file, files / file.stem)
    rows.append((f"artifact/{file.stem}", "file", None, {"path": f"model_versions/{version}/artifact/{file.stem}"}))
table = [
    {"project_id": project, "run_id": version, "attribute_path": path, "attribute_type": kind, "string_value": text,
     "file_value": file}
    for path, kind, text, file in [("sys/id", "string", version, None), *rows]
]
data = pathlib.Path("export/data", folder)
data.mkdir(parents=True)
pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), data / f"{version}_part_0.parquet")
shutil.move("registry", "registry-before")
"""
# The case of the article behind the five mistakes: an XGBoost classifier, pickled.
MAKE = """
import csv, pickle, xgboost
from sklearn.datasets import load_breast_cancer

data = load_breast_cancer()
rows, names = data.data[:, :4].astype("float32"), ["radius", "texture", "perimeter", "area"]
with open("classifier/pickled_model", "wb") as file:
    pickle.dump(xgboost.XGBClassifier(n_estimators=20, max_depth=3).fit(rows, data.target), file)
with open("rows.csv", "w", newline="") as file:
    csv.writer(file).writerows([names, *rows[:100].tolist()])
"""
# Models of every kind, each with what its own library answers to the rows: no code of the platform takes part.
MODELS = """
import csv, json, pathlib, pickle
import catboost, joblib, lightgbm, numpy, pandas, skops.io, xgboost
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

models, expected = pathlib.Path("models"), {}
models.mkdir()
data = load_breast_cancer(as_frame=True)
frame, numbers = data.data.iloc[:, :4].astype("float32"), data.target.to_numpy()
holes = frame.copy()
holes.iloc[::5, 1] = numpy.nan
matrix, text, three = holes.to_numpy(), numpy.array(["malignant", "benign"])[numbers], numpy.arange(len(frame)) % 3
mixed = frame.assign(**{"blood group": numpy.array(["A", "B", "AB"])[three], "ward": (three + 7).astype(str)})
tables = {"rows": frame, "holes": holes, "mixed": mixed}
for name, table in tables.items():
    table[:100].to_csv(models / f"{name}.csv", index=False)


def pickled(name, model):
    (models / name).write_bytes(pickle.dumps(model))


def answers(name, **values):
    expected[name] = {output: numpy.asarray(value)[:100].tolist() for output, value in values.items()}


def classifier(name, model, rows):
    answers(name, label=numpy.ravel(model.predict(rows)), probabilities=model.predict_proba(rows))


few = {"n_estimators": 10}
pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, text)
pickled("pipeline.pkl", pipeline)
skops.io.dump(pipeline, models / "pipeline.skops")
classifier("pipeline.pkl", pipeline, frame)
classifier("pipeline.skops", pipeline, frame)
columns = [("scaled", StandardScaler(), list(frame)), ("coded", OneHotEncoder(), ["blood group", "ward"])]
coded = make_pipeline(ColumnTransformer(columns), LogisticRegression()).fit(mixed, text)
pickled("columns.pkl", coded)
classifier("columns.pkl", coded, mixed)
places = [("scaled", StandardScaler(), [0, 1, 2, 3]), ("coded", OneHotEncoder(), [4, 5])]
placed = make_pipeline(ColumnTransformer(places), LogisticRegression()).fit(mixed.to_numpy(object), text)
pickled("places.pkl", placed)
classifier("places.pkl", placed, mixed.to_numpy(object))
several = LinearRegression().fit(frame, numpy.c_[numbers, 1 - 2 * numbers])
pickled("several.pkl", several)
answers("several.pkl", prediction=several.predict(frame))
machine = make_pipeline(StandardScaler(), LinearSVC()).fit(frame, text)
pickled("machine.pkl", machine)
answers("machine.pkl", label=machine.predict(frame))
pickled("labels.pkl", KNeighborsClassifier().fit(frame, numpy.c_[numbers, three]))
pickled("isotonic.pkl", IsotonicRegression().fit(frame.iloc[:, 0], numbers))
pickled("table.pkl", {"coefficients": [1.0, 2.0]})

model = lightgbm.LGBMClassifier(verbose=-1, **few).fit(holes, text)
joblib.dump(model, models / "lightgbm.joblib", compress=3)
classifier("lightgbm.joblib", model, holes)
model = lightgbm.LGBMClassifier(verbose=-1, **few).fit(holes, numbers)
model.booster_.save_model(models / "lightgbm.txt")
classifier("lightgbm.txt", model, holes)
classes = {"objective": "multiclass", "num_class": 3, "verbose": -1}
booster = lightgbm.train(classes, lightgbm.Dataset(matrix, three), 10)
booster.save_model(models / "lightgbm.bst")
answers("lightgbm.bst", label=booster.predict(matrix).argmax(axis=1), probabilities=booster.predict(matrix))
booster = lightgbm.train({"objective": "regression", "verbose": -1}, lightgbm.Dataset(matrix, numbers), 10)
booster.save_model(models / "lightgbm-regression.txt")
answers("lightgbm-regression.txt", prediction=booster.predict(matrix))
lightgbm.train({"objective": "cross_entropy", "verbose": -1}, lightgbm.Dataset(matrix, numbers), 2).save_model(
    models / "cross-entropy.txt"
)

model = xgboost.XGBClassifier(**few).fit(holes, numbers)
model.save_model(models / "xgboost.json")
pickled("booster.pkl", model.get_booster())
classifier("xgboost.json", model, holes)
classifier("booster.pkl", model, holes)
for objective, name in (("multi:softprob", "xgboost.ubj"), ("multi:softmax", "softmax.json")):
    rows = xgboost.DMatrix(matrix, three)
    booster = xgboost.train({"objective": objective, "num_class": 3}, rows, 10)
    booster.save_model(models / name)
    margins = numpy.exp(booster.predict(rows, output_margin=True))
    answers(name, label=margins.argmax(axis=1), probabilities=margins / margins.sum(axis=1, keepdims=True))
booster = xgboost.train({"objective": "count:poisson"}, xgboost.DMatrix(matrix, numbers), 10)
booster.save_model(models / "poisson.ubj")
answers("poisson.ubj", prediction=booster.predict(xgboost.DMatrix(matrix)))
model = xgboost.XGBRanker(**few).fit(holes, numbers, group=[len(holes)])
model.save_model(models / "ranker.json")
answers("ranker.json", prediction=model.predict(holes))
xgboost.train({"objective": "binary:hinge"}, xgboost.DMatrix(matrix, numbers), 2).save_model(models / "hinge.json")

quiet = {"verbose": 0, "allow_writing_files": False, **few}
model = catboost.CatBoostClassifier(**quiet).fit(holes, text)
model.save_model(str(models / "catboost.cbm"))
pickled("catboost.pkl", model)
classifier("catboost.cbm", model, holes)
classifier("catboost.pkl", model, holes)
model = catboost.CatBoostClassifier(cat_features=["blood group", "ward"], **quiet).fit(mixed, text)
model.save_model(str(models / "categories.cbm"))
model = catboost.CatBoostRegressor(**quiet).fit(matrix, numbers * 1.5)
model.save_model(str(models / "catboost-regression.cbm"))
answers("catboost-regression.cbm", prediction=model.predict(matrix))
pathlib.Path("expected.json").write_text(json.dumps(expected))
"""
# As real MLflow writes them, with what requirements/import.txt and the choice mlflow lock.
MLFLOW = """
import pathlib, pickle
import joblib, lightgbm, xgboost, catboost
import mlflow.catboost, mlflow.lightgbm, mlflow.sklearn, mlflow.xgboost

pathlib.Path("mlflow").mkdir()
pipeline = pickle.loads(pathlib.Path("models/pipeline.pkl").read_bytes())
for name in ("skops", "cloudpickle", "pickle"):
    mlflow.sklearn.save_model(pipeline, f"mlflow/{name}", serialization_format=name, pip_requirements=[])
model = xgboost.XGBClassifier()
model.load_model("models/xgboost.json")
mlflow.xgboost.save_model(model, "mlflow/xgboost", pip_requirements=[])
mlflow.xgboost.save_model(model.get_booster(), "mlflow/booster", pip_requirements=[])
mlflow.lightgbm.save_model(joblib.load("models/lightgbm.joblib"), "mlflow/lightgbm", pip_requirements=[])
mlflow.lightgbm.save_model(
    lightgbm.Booster(model_file="models/lightgbm.txt"), "mlflow/lightgbm-booster", pip_requirements=[]
)
model = catboost.CatBoostClassifier().load_model("models/catboost.cbm")
mlflow.catboost.save_model(model, "mlflow/catboost", pip_requirements=[])


class Own(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str]):
        return model_input


mlflow.pyfunc.save_model("mlflow/own", python_model=Own(), pip_requirements=[])
"""
# Serves a version and asks for its golden rows, as `make demo` does with the pinned one.
SERVE = """
import os, sys
from pathlib import Path
from serving.domain.artifacts import open_artifact
from serving.domain.references import Reference
from serving.offline import project
from serving.offline.bootstrap import fetch, open_registry
from tools import demo

reference = Reference.parse(sys.argv[1])
folder = fetch(reference, open_registry("local", project.REGISTRY), project.ARTIFACTS)
artifact = open_artifact(folder, reference.digest)
places = {"SERVING_GRPC_PORT": "0", "SERVING_METRICS_PORT": "0", "SERVING_DRAIN": "0"}
places |= {"MODEL_VERSION": str(reference), "SERVING_ARTIFACTS": str(project.ARTIFACTS)}
demo.answers(demo.Shown(reference, project.ARTIFACTS, artifact, pinned=False), os.environ | places)
"""
SOURCES = (
    "pipeline.pkl", "pipeline.skops", "several.pkl", "machine.pkl", "booster.pkl", "catboost.pkl", "lightgbm.joblib",
    "lightgbm.txt", "lightgbm.bst", "lightgbm-regression.txt", "xgboost.json", "xgboost.ubj", "softmax.json",
    "poisson.ubj", "ranker.json", "catboost.cbm", "catboost-regression.cbm",
)  # fmt: skip
RUNTIMES = {
    "sklearn": ("mlserver_sklearn.SKLearnModel", "pipeline.pkl", "model.pickle"),
    "xgboost": ("mlserver_xgboost.XGBoostModel", "xgboost.ubj", "model.bst"),
    "lightgbm": ("mlserver_lightgbm.LightGBMModel", "lightgbm.bst", "model.bst"),
    "catboost": ("mlserver_catboost.CatboostModel", "catboost.cbm", "model.cbm"),
}


# Writes the document of the process that opens it, to whatever file it may be.
LIE = """
import os
for number in range(3, 64):
    try:
        os.write(number, {!r})
    except OSError:
        pass
os._exit(0)
"""
PICKLED = ("classifier/pickled_model", "--rows", "rows.csv")


@pytest.fixture(scope="module")
def repo(template: Path, module_path: Path) -> Repo:
    """A repo with a pickled model in it."""
    made = generate(template, module_path / "import", {"feature_store": "none", "model_registry": "neptune"})
    (made.path / "build" / "import").mkdir(parents=True)
    (made.path / "classifier").mkdir()
    converting(made, MAKE)
    made.passes("versions")
    return made


def converting(repo: Repo, code: str) -> None:
    """Run code in the environment that opens pickles and reads Parquet."""
    python = Environment(repo.path / "build" / "import" / ".venv").ensure([repo.path / "requirements" / "import.txt"])
    done = run([str(python), "-c", code], cwd=repo.path)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def models(repo: Repo) -> Repo:
    """The repo with models of every kind in `models/`, and their own answers in `expected.json`."""
    converting(repo, MODELS)
    return repo


@pytest.fixture(scope="module")
def mlflow(models: Repo) -> Repo:
    """The repo with model folders of MLflow in `mlflow/`."""
    variant = ROOT / ROOT_FOLDER / "_variants" / "model_registry" / "mlflow" / "requirements" / "model_registry.txt"
    locks = [models.path / "requirements" / "import.txt", variant]
    python = Environment(models.path / "build" / "mlflow" / ".venv").ensure(locks)
    done = run([str(python), "-c", MLFLOW], cwd=models.path)
    assert done.returncode == 0, done.stderr
    return models


def ran(repo: Repo, *words: str) -> tuple[int, str, str]:
    done = run([repo.python, "-m", *words], cwd=repo.path, environment=os.environ | {"NEPTUNE_API_TOKEN": TOKEN})
    return done.returncode, done.stdout, done.stderr


def imported(repo: Repo, source: str, rows: str = "rows.csv", *options: str) -> tuple[int, str, str]:
    # In a container: tests/containers/test_import_in_a_container.py.
    words = ("import", "--json", "--trusted", source, "--rows", rows, *options)
    return ran(repo, "serving.offline.model_version", *words)


def version(repo: Repo, source: str, rows: str = "models/rows.csv", *options: str) -> tuple[str, str]:
    """Import a model; return its reference and what was said."""
    code, out, err = imported(repo, source, rows, *options)
    assert code == 0, err
    return json.loads(out)["reference"], err


def parts(repo: Repo, reference: str) -> tuple[Any, Any]:
    """Return the manifest and the golden rows of a version."""
    model, number = reference.removeprefix("local:").partition("#")[0].split("/")
    folder = repo.path / "registry" / model / number / "artifact"
    return tuple(json.loads((folder / name).read_text(encoding="utf-8")) for name in ("manifest.json", "golden.json"))


def assert_answers(repo: Repo, reference: str, name: str) -> None:
    """The golden rows are what the model's own library answers."""
    expected = json.loads(repo.text("expected.json"))[name]
    _, golden = parts(repo, reference)
    assert golden["outputs"].keys() == expected.keys()
    for output, values in golden["outputs"].items():
        original = [expected[output][int(row)] for row in golden["entities"]]
        same = (
            original if isinstance(original[0], str | int) else [pytest.approx(value, rel=1e-4) for value in original]
        )
        assert values == same, output


def served(repo: Repo, reference: str) -> str:
    done = run([repo.python, "-c", SERVE, reference], cwd=repo.path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pickled_classifier_is_registered_as_onnx_and_can_be_served(repo: Repo) -> None:
    code, out, err = imported(repo, "classifier/pickled_model")
    assert code == 0, err
    reference = json.loads(out)["reference"]
    assert reference.startswith("local:diabetes-progression/1#sha256=")
    message = json.loads(repo.passes("versions", "show", "--json", reference))
    assert message["outputs"] == {"label": "INT64", "probabilities": "FP32"}
    assert list(message["inputs"]) == ["radius", "texture", "perimeter", "area"]
    assert message["lineage"]["parameters"]["estimator"] == "XGBClassifier"
    assert message["lineage"]["parameters"]["imported"].startswith("sha256=")
    repo.passes("promote", reference)
    assert reference in repo.text("model.lock")
    # The same file is the same model: it keeps its version.
    assert json.loads(imported(repo, "classifier/pickled_model")[1])["reference"] == reference


def test_it_goes_into_the_registry_that_is_named(repo: Repo) -> None:
    pickled = ("import", "--json", "--trusted", "classifier/pickled_model", "--rows", "rows.csv")
    code, _, err = ran(repo, "serving.offline.model_version", "--registry", "elsewhere", *pickled)
    assert code == 0, err
    assert (repo.path / "elsewhere" / "diabetes-progression" / "1").is_dir()


def test_the_command_of_the_page_makes_the_environment_that_opens_pickles(repo: Repo) -> None:
    shutil.rmtree(repo.path / "build" / "import")
    code, _, err = imported(repo, "classifier/pickled_model")
    assert code == 1
    assert err.splitlines()[-1].endswith('is missing; `make versions ARGS="import ..."` makes it.')
    assert "sha256=" in repo.passes("versions", "import", "--trusted", *PICKLED)


@pytest.mark.parametrize(
    ("source", "what"),
    [("pipeline.pkl", "pipeline.pkl is a pickle"), ("pipeline.skops", "pipeline.skops is a file of skops")],
)
def test_without_an_engine_a_program_is_opened_only_if_it_is_trusted(models: Repo, source: str, what: str) -> None:
    words = ("-m", "serving.offline.model_version", "import", f"models/{source}", "--rows", "models/rows.csv")
    nowhere = os.environ | {"PATH": str(models.path)}
    done = run([models.python, *words], cwd=models.path, environment=nowhere)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: models/{source}: {what}, which can run its author's code. Start Docker, and it is opened "
        "in a container; or, if you trust its author, add --trusted: it then has your rights."
    )
    words = ("-m", "serving.offline.model_version", "import", "models/xgboost.json", "--rows", "models/rows.csv")
    done = run([models.python, *words], cwd=models.path, environment=nowhere)
    assert done.returncode == 0, done.stderr  # it can hold no code


def test_a_file_outside_the_source_is_no_models_file(repo: Repo) -> None:
    found: dict[str, Any] = {key: {} for key in ("rows", "answers", "parameters", "libraries")}
    found |= {"columns": [], "outputs": [], "file": "../rows.csv", "origin": "", "name": ""}
    document = json.dumps({"model": "", "found": found})

    class Liar:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (LIE.format(document.encode()),)

    (repo.path / "liars").mkdir()
    (repo.path / "liars" / "liar").write_bytes(pickle.dumps(Liar()))
    returned, _, err = imported(repo, "liars/liar")
    assert returned == 1
    assert err.splitlines()[-1] == "error: liars/liar: can't be imported: it names '../rows.csv' as its file."


def test_a_pickle_sees_no_secret_and_what_it_leaves_behind_is_not_looked_at(repo: Repo, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    look = f"__import__('pathlib').Path({str(seen)!r}).write_text(repr(dict(__import__('os').environ)))"
    (repo.path / "evil").write_bytes(b"cbuiltins\neval\n(V" + look.encode() + b"\ntR.")
    code, _, err = imported(repo, "evil")
    assert code == 1
    assert err.splitlines()[-1].startswith("error: evil: can't be imported: holds a int, which is no estimator")
    assert seen.exists()
    assert TOKEN not in seen.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("radius,texture\n1,2\n", "the model takes 4 as columns"),
        ("radius,texture,perimeter,area\n1,2,3,x\n", "'x'); text is in the columns area."),
        ("radius,texture,perimeter,area\n1,2,3,4\n5,6,7\n", "row 1 has 3 cells, and there are 4 columns"),
        ("radius,texture,perimeter,area\n1,2,3,inf\n", "column 'area' holds 'inf' in row 0, which FP32 can't hold"),
        ("radius,texture,perimeter,area\n", "needs a row at least"),
        ("", "is no table of numbers"),
        ("radius,texture,area,area\n1,2,3,4\n", "two columns are called 'area'"),
    ],
)
def test_rows_that_do_not_fit_are_refused_in_one_sentence(repo: Repo, content: str, says: str) -> None:
    (repo.path / "wrong.csv").write_text(content, encoding="utf-8")
    code, out, err = imported(repo, "classifier/pickled_model", "wrong.csv")
    assert (code, out) == (1, "")
    assert says in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize("pickled", ["model.lock", "nothing-there", "rows.csv"])
def test_what_is_no_pickled_model_is_refused_in_one_sentence(repo: Repo, pickled: str) -> None:
    code, _, err = imported(repo, pickled)
    assert code == 1
    assert err.splitlines()[-1].startswith(f"error: {pickled}: ")
    assert "Traceback" not in err


@pytest.mark.parametrize("source", SOURCES)
def test_a_model_file_answers_as_its_own_library_does(models: Repo, source: str) -> None:
    takes_nan = source.startswith(("lightgbm", "xgboost", "softmax", "poisson", "ranker", "booster", "catboost"))
    reference, _ = version(models, f"models/{source}", f"models/{'holes' if takes_nan else 'rows'}.csv")
    assert_answers(models, reference, source)
    manifest, _ = parts(models, reference)
    kinds = {output["name"]: (output["datatype"], output["shape"]) for output in manifest["outputs"]}
    expected = json.loads(models.text("expected.json"))[source]
    for name, (first, *_) in expected.items():
        datatype = {str: "TEXT", int: "INT64"}.get(type(first), "FP32")
        assert kinds[name] == (datatype, [-1, len(first)] if isinstance(first, list) else [-1])
    assert {feature["name"]: feature["allow_nan"] for feature in manifest["features"]["real_time"]} == {
        "mean_radius": False,
        "mean_texture": takes_nan,
        "mean_perimeter": False,
        "mean_area": False,
    }


@pytest.mark.parametrize(
    ("folder", "model"),
    [
        ("skops", "pipeline.pkl"),
        ("cloudpickle", "pipeline.pkl"),
        ("pickle", "pipeline.pkl"),
        ("xgboost", "xgboost.json"),
        ("booster", "xgboost.json"),
        ("lightgbm", "lightgbm.joblib"),
        ("lightgbm-booster", "lightgbm.txt"),
        ("catboost", "catboost.cbm"),
    ],
)
def test_a_model_folder_of_mlflow_answers_as_the_model_in_it(mlflow: Repo, folder: str, model: str) -> None:
    rows = f"models/{'rows' if model.startswith('pipeline') else 'holes'}.csv"
    reference, _ = version(mlflow, f"mlflow/{folder}", rows, "--model", f"mlflow-{folder}")
    assert reference.startswith(f"local:mlflow-{folder}/1#")
    if folder == "catboost":
        assert version(mlflow, "mlflow/catboost/MLmodel", rows, "--model", f"mlflow-{folder}")[0] == reference
    assert_answers(mlflow, reference, model)
    shown = json.loads(mlflow.passes("versions", "show", "--json", reference))
    assert shown["lineage"]["description"].startswith("Imported from a model folder of MLflow (")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_model_of_mlserver_keeps_its_name_and_answers_as_it_did(models: Repo, runtime: str) -> None:
    implementation, file, default = RUNTIMES[runtime]
    folder = models.path / "mlserver" / runtime
    folder.mkdir(parents=True)
    rows = f"models/{'rows' if runtime == 'sklearn' else 'holes'}.csv"
    settings: dict[str, Any] = {"name": f"my-{runtime}", "implementation": implementation}
    (folder / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")
    shutil.copy(models.path / "models" / file, folder / default)
    reference, _ = version(models, f"mlserver/{runtime}", rows)
    assert reference.startswith(f"local:my-{runtime}/1#sha256=")
    assert_answers(models, reference, file)
    # The same by its settings, which name another file.
    (folder / default).rename(folder / "other")
    settings["parameters"] = {"uri": "./other", "version": "v7"}
    (folder / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")
    assert version(models, f"mlserver/{runtime}/model-settings.json", rows)[0] == reference
    assert version(models, f"mlserver/{runtime}", rows, "--model", f"another-{runtime}")[0].startswith(
        f"local:another-{runtime}/1#"
    )
    models.passes("promote", reference)
    assert reference in models.text("model.lock")


def test_the_commands_of_the_page_on_moving_in_work(mlflow: Repo) -> None:
    settings = {"name": "income", "implementation": "mlserver_sklearn.SKLearnModel"}
    places = {
        "mlserver/income/model.pkl": "models/pipeline.pkl",
        "mlflow/income": "mlflow/lightgbm",
        "models/income.pkl": "models/pipeline.pkl",
        "models/income.json": "models/xgboost.json",
        "models/income.txt": "models/lightgbm.txt",
        "models/income.cbm": "models/catboost.cbm",
    }
    for place, model in places.items():
        (mlflow.path / place).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (mlflow.path / model).is_dir() else shutil.copy
        copy(mlflow.path / model, mlflow.path / place)
    (mlflow.path / "mlserver" / "income" / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")
    shutil.move(mlflow.path / "rows.csv", mlflow.path / "rows-before.csv")
    shutil.copy(mlflow.path / "models" / "rows.csv", mlflow.path / "rows.csv")
    shown = [block for block in blocks(mlflow.text("docs/moving-in.md")) if block.language == "sh"]
    commands = [line.partition("#")[0] for block in shown for line in block.text.splitlines()]
    assert len(commands) == len(places) + 1  # one model of MLServer in two ways
    for shown_command in commands:
        # In a container: tests/containers/test_import_in_a_container.py.
        command = shown_command.replace("import ", "import --trusted ", 1)
        done = run(["sh", "-e", "-c", command], cwd=mlflow.path, environment=os.environ | {"PYTHON": sys.executable})
        assert done.returncode == 0, done.stdout + done.stderr
        assert "#sha256=" in done.stdout
    shutil.move(mlflow.path / "rows-before.csv", mlflow.path / "rows.csv")


def test_a_model_folder_of_mlflow_below_settings_of_mlserver_is_found(mlflow: Repo) -> None:
    folder = mlflow.path / "mlserver-mlflow"
    shutil.copytree(mlflow.path / "mlflow" / "xgboost", folder / "model")
    settings = {
        "name": "No Name Here",
        "implementation": "mlserver_mlflow.MLflowRuntime",
        "parameters": {"uri": "model"},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")
    reference, said = version(mlflow, "mlserver-mlflow", "models/holes.csv")
    assert reference.startswith("local:diabetes-progression/")
    assert "the model is called 'No Name Here', which is no name here" in said
    assert_answers(mlflow, reference, "xgboost.json")


def of_mlserver(repo: Repo, name: str, runtime: str, file: str) -> str:
    """Make a folder of MLServer with one of the models; return its path."""
    folder = repo.path / "matrices" / name
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"name": name, "implementation": RUNTIMES[runtime][0], "parameters": {"uri": f"./{file}"}}
    (folder / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")
    shutil.copy(repo.path / "models" / file, folder / file)
    return f"matrices/{name}"


@pytest.mark.parametrize(
    ("runtime", "file", "matrix", "outputs"),
    [
        ("sklearn", "pipeline.pkl", "predict", {"predict": ("TEXT", [-1, 1]), "predict_proba": ("FP32", [-1, 2])}),
        ("sklearn", "several.pkl", "x:FP64", {"predict": ("FP64", [-1, 2])}),
        ("xgboost", "xgboost.json", "input-0", {"predict": ("INT64", [-1, 1]), "predict_proba": ("FP32", [-1, 2])}),
        ("xgboost", "xgboost.ubj", "input-0", {"predict": ("FP32", [-1, 3])}),
        ("lightgbm", "lightgbm.txt", "x:FP64", {"predict": ("FP64", [-1, 1])}),
        ("catboost", "catboost.cbm", "x", {"predict": ("TEXT", [-1, 1]), "predict_proba": ("FP64", [-1, 2])}),
    ],
)
def test_a_matrix_and_the_outputs_are_those_of_mlserver(
    models: Repo, runtime: str, file: str, matrix: str, outputs: dict[str, Any]
) -> None:
    source = of_mlserver(models, f"matrix-{file.replace('.', '-')}", runtime, file)
    rows = f"models/{'rows' if runtime == 'sklearn' else 'holes'}.csv"
    reference, said = version(models, source, rows, "--matrix", matrix)
    assert "is the input" not in said
    manifest, golden = parts(models, reference)
    assert {entry["name"]: (entry["datatype"], entry["shape"]) for entry in manifest["outputs"]} == outputs
    name, _, datatype = matrix.partition(":")
    (feature,) = manifest["features"]["real_time"]
    assert (feature["name"], feature["shape"], feature["datatype"]) == (name, [4], datatype or "FP32")
    assert feature["description"] == "mean radius, mean texture, mean perimeter, mean area"
    assert feature["allow_nan"] == (runtime != "sklearn")
    if feature["allow_nan"]:
        expected = json.loads(models.text("expected.json"))[file]["probabilities"]
        probable = [expected[int(row)] for row in golden["entities"]]
        if outputs["predict"][1] == [-1, 1] and len(outputs) == 1:  # that of the second class
            probable = [row[1:] for row in probable]
        answered = golden["outputs"][list(outputs)[-1]]
        assert answered == [pytest.approx(row, rel=1e-4) for row in probable]
    assert reference.partition("#")[2] in served(models, reference)


def test_a_matrix_that_mlserver_would_answer_otherwise_is_refused(models: Repo) -> None:
    softmax = of_mlserver(models, "softmax", "xgboost", "softmax.json")
    for source, rows, matrix, says in (
        (softmax, "holes.csv", "x", "MLServer answers labels of multi:softmax as floats; import it without --matrix."),
        ("models/columns.pkl", "mixed.csv", "x", "column 'blood group' holds text, and --matrix takes numbers"),
        ("models/pipeline.pkl", "rows.csv", "x:FP8", "--matrix 'x:FP8': write the name of the input that callers send"),
    ):
        code, out, err = imported(models, source, f"models/{rows}", "--text", "ward", "--matrix", matrix)
        if rows != "mixed.csv":
            code, out, err = imported(models, source, f"models/{rows}", "--matrix", matrix)
        assert (code, out) == (1, "")
        assert says in err.splitlines()[-1]
        assert "Traceback" not in err


@pytest.mark.parametrize("model", ["columns.pkl", "places.pkl"])
def test_columns_of_text_reach_the_transformers_that_read_them(models: Repo, model: str) -> None:
    # Without --text the ward, a number, would be no category that the model knows.
    code, _, err = imported(models, f"models/{model}", "models/mixed.csv")
    assert code == 1
    assert "the model can't answer the rows" in err.splitlines()[-1]
    assert "Traceback" not in err
    reference, said = version(models, f"models/{model}", "models/mixed.csv", "--text", "ward")
    assert "column 'blood group' is the input blood_group\n" in said
    assert_answers(models, reference, model)
    manifest, _ = parts(models, reference)
    inputs = {feature["name"]: feature for feature in manifest["features"]["real_time"]}
    assert [feature["datatype"] for feature in inputs.values()] == [*4 * ["FP32"], "TEXT", "TEXT"]
    assert (inputs["blood_group"]["description"], inputs["ward"]["description"]) == ("blood group", "")
    assert reference.partition("#")[2] in served(models, reference)


def test_a_missing_number_can_be_sent_to_a_model_that_was_imported_with_one(models: Repo) -> None:
    reference, _ = version(models, "models/xgboost.json", "models/holes.csv")
    assert None in parts(models, reference)[1]["inputs"]["mean_texture"]
    assert reference.partition("#")[2] in served(models, reference)
    code, _, err = imported(models, "models/pipeline.pkl", "models/holes.csv")
    assert code == 1
    assert err.splitlines()[-1].endswith("the model can't answer the rows (ValueError: Input X contains NaN).")


def test_titles_that_are_no_names_become_names_and_keep_their_order(models: Repo) -> None:
    _, *rows = models.text("models/rows.csv").splitlines()
    titles = {
        "1st radius": "column_1st_radius",
        "gr\u00f6\u00dfe.mm": "groe_mm",
        "groe-mm": "groe_mm_2",
        "label": "label_2",
    }
    (models.path / "titles.csv").write_text("\n".join([",".join(titles), *rows]), encoding="utf-8")
    reference, said = version(models, "models/poisson.ubj", "titles.csv")
    manifest, _ = parts(models, reference)
    inputs = {feature["description"]: feature["name"] for feature in manifest["features"]["real_time"]}
    assert inputs == titles
    assert "column 'label' is the input label_2\n" in said
    assert reference.partition("#")[2] in served(models, reference)


def test_rows_with_other_columns_than_the_model_knows_are_refused(models: Repo) -> None:
    first, *rows = models.text("models/rows.csv").splitlines()
    changed = first.replace("mean texture", "mean colour")
    (models.path / "other.csv").write_text("\n".join([changed, *rows]), encoding="utf-8")
    for model in ("pipeline.pkl", "xgboost.json", "catboost.cbm"):
        code, _, err = imported(models, f"models/{model}", "other.csv")
        assert code == 1
        assert "the model takes 'mean texture' where the rows have 'mean colour'" in err.splitlines()[-1]
    code, _, err = imported(models, "models/lightgbm.txt", "other.csv")
    assert "the model takes 'mean_texture' where the rows have 'mean colour'" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("text.txt", "some text\n", "text.txt: begins with 'some text\\n', which no .txt file does; supported are"),
        ("empty.bst", "", "empty.bst: begins with nothing, which no .bst file does; supported are"),
        ("settings.json", '{"a": 1}', "settings.json: looks like a file of XGBoost, which can't open it ("),
        ("cut.txt", "tree\nversion=v4\n", "cut.txt: was trained for the objective 'none', which can't be imported"),
        ("cut.cbm", "CBM1 and no more", "cut.cbm: looks like a file of CatBoost, which can't open it ("),
        ("cut.npz", "PK\x03\x04", "cut.npz: looks like a file of skops, which can't open it ("),
        (
            "gone.pkl",
            "\x80\x02cnowhere.models\nModel\n.",
            "name the package of nowhere in requirements/import.in",
        ),
        ("folder/notes.md", "", "folder: is a folder without MLmodel or model-settings.json; supported are"),
        ("folder/MLmodel", "flavors: [", "folder/MLmodel: can't be read (ParserError: "),
        ("folder/MLmodel", "artifact_path: model\n", "folder/MLmodel: can't be read (KeyError: 'flavors')"),
        (
            "folder/MLmodel",
            "flavors: {python_function: {}, keras: {}}",
            "MLmodel: has the flavors python_function, keras; supported are sklearn, xgboost, lightgbm, catboost.",
        ),
        (
            "folder/MLmodel",
            "flavors: {sklearn: {pickled_model: ../classifier/pickled_model}}",
            "names '../classifier/pickled_model', which is not in its folder; name the model file instead.",
        ),
        (
            "folder/MLmodel",
            "flavors: {xgboost: {data: .}}",
            "folder: can't be imported: folder: can't be read (Is a dir",
        ),
        (
            "folder/model-settings.json",
            '{"implementation": ["a"]}',
            "has the implementation \"['a']\"; supported are mls",
        ),
        ("folder/model-settings.json", "[", "folder/model-settings.json: can't be read (JSONDecodeError: "),
        (
            "folder/model-settings.json",
            '{"implementation": "mlserver_huggingface.HuggingFaceRuntime"}',
            "has the implementation 'mlserver_huggingface.HuggingFaceRuntime'; supported are mlserver_sklearn.SKL",
        ),
        (
            "folder/model-settings.json",
            '{"implementation": "mlserver_sklearn.SKLearnModel"}',
            "names no file in parameters.uri, and its folder has no model.joblib or model.pickle or model.pkl.",
        ),
        (
            "folder/model-settings.json",
            '{"implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "s3://bucket/model.joblib"}}',
            "names 's3://bucket/model.joblib', which is not in its folder; name the model file instead.",
        ),
    ],
)
def test_what_is_no_model_is_refused_with_what_was_found(repo: Repo, path: str, content: str, says: str) -> None:
    shutil.rmtree(repo.path / "folder", ignore_errors=True)
    (repo.path / path).parent.mkdir(exist_ok=True)
    (repo.path / path).write_bytes(content.encode("latin-1"))
    source = path.partition("/")[0]
    assert_refused(repo, source, says)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("table.pkl", "holds a dict, which is no estimator"),
        ("labels.pkl", "answers with several labels per row"),
        (
            "hinge.json",
            "was trained for the objective 'binary:hinge', which can't be imported; supported are binary:logis",
        ),
        (
            "cross-entropy.txt",
            "was trained for the objective 'cross_entropy', which can't be imported; supported are bina",
        ),
    ],
)
def test_a_model_that_no_graph_can_answer_for_is_refused(models: Repo, model: str, says: str) -> None:
    assert_refused(models, f"models/{model}", says, "models/rows.csv")


def test_an_estimator_without_a_converter_is_refused(models: Repo) -> None:
    says = "CatBoostClassifier reads categories or text, which CatBoost can't export to ONNX; put a ColumnTransformer"
    code, _, err = imported(models, "models/categories.cbm", "models/mixed.csv", "--text", "ward")
    assert code == 1
    assert err.splitlines()[-1].startswith(f"error: models/categories.cbm: can't be imported: {says}")
    first, *rows = [line.partition(",")[0] for line in models.text("models/rows.csv").splitlines()]
    (models.path / "one.csv").write_text("\n".join([first, *rows]), encoding="utf-8")
    says = "error: models/isotonic.pkl: can't be imported: IsotonicRegression can't be exported to ONNX"
    assert_refused(models, "models/isotonic.pkl", says, "one.csv")


def test_a_folder_of_mlflow_with_code_of_its_own_is_refused(mlflow: Repo) -> None:
    assert_refused(mlflow, "mlflow/own", "own/MLmodel: has the flavors python_function; supported are sklearn")


def assert_refused(repo: Repo, source: str, says: str, rows: str = "rows.csv") -> None:
    code, out, err = imported(repo, source, rows)
    assert (code, out) == (1, "")
    assert says in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith(f"error: {source}: ")
    assert "Traceback" not in err


def test_versions_come_back_from_what_neptunes_exporter_wrote(repo: Repo) -> None:
    before = json.loads(imported(repo, "classifier/pickled_model")[1])["reference"]
    converting(repo, EXPORT)
    (files,) = (repo.path / "export" / "files").iterdir()
    (model,) = files.rglob("model")
    content = model.read_bytes()
    for broken, says in ((b"!" + content[1:], "model.onnx: sha256 is"), (None, "is not below export/files")):
        model.unlink()
        if broken:
            model.write_bytes(broken)
        code, out, err = ran(repo, "tools.neptune_export", "export/data", "export/files")
        assert (code, out) == (1, "")
        assert says in err.splitlines()[-1]
        assert "Traceback" not in err
    model.write_bytes(content)
    for _ in range(2):  # safe to run twice
        code, out, err = ran(repo, "tools.neptune_export", "export/data", "export/files")
        assert (code, out.strip()) == (0, before), err
    (known,) = json.loads(repo.passes("versions", "list", "--json"))
    assert known["origin"] == before.replace("local:diabetes-progression/1", "neptune:diabetes-progression/7")


@pytest.mark.parametrize("data", ["classifier", "nothing-there"])
def test_what_is_no_export_is_refused_in_one_sentence(repo: Repo, data: str) -> None:
    code, _, err = ran(repo, "tools.neptune_export", data, ".")
    assert code == 1
    assert err.splitlines()[-1].startswith(f"error: {data}: ")
    assert "Traceback" not in err
