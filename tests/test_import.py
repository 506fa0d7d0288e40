"""A model that exists already, pickled, becomes a version of a generated repo."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support import Repo, generate, run
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


@pytest.fixture(scope="module")
def repo(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A repo with a pickled model in it."""
    made = generate(template, tmp_path_factory.mktemp("import"), {"feature_store": "none", "model_registry": "neptune"})
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


def ran(repo: Repo, *words: str) -> tuple[int, str, str]:
    python = repo.path / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = run([str(python), "-m", *words], cwd=repo.path, environment=os.environ | {"NEPTUNE_API_TOKEN": TOKEN})
    return done.returncode, done.stdout, done.stderr


def imported(repo: Repo, pickled: str, rows: str = "rows.csv") -> tuple[int, str, str]:
    return ran(repo, "serving.offline.model_version", "import", "--json", pickled, "--rows", rows)


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
    pickled = ("import", "--json", "classifier/pickled_model", "--rows", "rows.csv")
    code, _, err = ran(repo, "serving.offline.model_version", "--registry", "elsewhere", *pickled)
    assert code == 0, err
    assert (repo.path / "elsewhere" / "diabetes-progression" / "1").is_dir()


def test_the_command_of_the_page_makes_the_environment_that_opens_pickles(repo: Repo) -> None:
    shutil.rmtree(repo.path / "build" / "import")
    code, _, err = imported(repo, "classifier/pickled_model")
    assert code == 1
    assert err.splitlines()[-1].endswith('is missing; `make versions ARGS="import ..."` makes it.')
    assert "sha256=" in repo.passes("versions", "import", "classifier/pickled_model", "--rows", "rows.csv")


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
        ("radius,texture,perimeter,area\n1,2,3,x\n", "is no table of numbers"),
        ("radius,texture,perimeter,area\n1,2,3,nan\n", "no missing ones"),
        ("radius,texture,perimeter,area\n", "needs a row at least"),
        ("", "is no table of numbers"),
        ("radius,texture,perimeter,../area\n1,2,3,4\n", "must be a letter"),
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
    (version,) = json.loads(repo.passes("versions", "list", "--json"))
    assert version["origin"] == before.replace("local:diabetes-progression/1", "neptune:diabetes-progression/7")


@pytest.mark.parametrize("data", ["classifier", "nothing-there"])
def test_what_is_no_export_is_refused_in_one_sentence(repo: Repo, data: str) -> None:
    code, _, err = ran(repo, "tools.neptune_export", data, ".")
    assert code == 1
    assert err.splitlines()[-1].startswith(f"error: {data}: ")
    assert "Traceback" not in err
