"""The page on replacing the model, followed word by word, gives a service; so do other libraries' estimators.

Each model is fitted on real data. Its own answers are the golden rows: training compares every row of the exported
model with them, and `make demo` and `make predict` compare the served ones.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, Block, Repo, blocks, generate
from tests.test_generated_readme import A_FILE, free_port, served

pytestmark = pytest.mark.long

MAX_LINES = 60
ANSWERS = {"project_slug": "tumour-diagnosis", "feature_store": "sqlite", "model_registry": "local"}
LIBRARIES = ("xgboost-cpu", "lightgbm", "catboost")
ESTIMATORS = ROOT / "tests" / "estimators"
OF_THE_MODEL = re.compile(r"\bWorkspace\b|^from model\b|\buser_model\b", re.MULTILINE)
LEAST_ASKING = 10
A_TEXT = re.compile(r"static=\(Feature\(.*\),\),")


def files(repo: Repo) -> list[tuple[str, str]]:
    """Return the files that the page shows."""
    shown = blocks(repo.text("docs/model.md"))
    return [(block.note.removeprefix(A_FILE), block.text) for block in shown if block.note.startswith(A_FILE)]


def edit(repo: Repo, name: str, text: str) -> None:
    """Write a file of the model.

    Python takes bytecode for new if the source has its second and size: two edits in one second need this.
    """
    (repo.path / name).write_text(text, encoding="utf-8")
    for bytecode in (repo.path / name).parent.glob("__pycache__/*.pyc"):
        bytecode.unlink()


@pytest.fixture(scope="module")
def repo(template: Path, module_path: Path) -> Repo:
    """A new repo whose owner has done what the page says, and nothing else."""
    made = generate(template, module_path / "page" / "out", ANSWERS)
    for name, text in files(made):
        edit(made, name, text)
    (made.path / "tests" / "model" / "test_training_data.py").unlink()
    return made


def test_all_that_is_edited_is_the_users_own(template: Path, with_libraries: Repo, tmp_path: Path) -> None:
    """An update of the template changes none of it; the locks are what `make lock` writes."""
    new = generate(template, tmp_path / "out", ANSWERS).path
    texts = [path.relative_to(new) for path in new.rglob("*") if path.is_file()]
    edited = {path for path in texts if not same(new / path, with_libraries.path / path)}
    assert {path.parts[0] for path in edited if path.suffix != ".txt"} <= {"model", "tests", "model.lock"}
    assert {path.parent.name for path in edited if path.parts[0] == "tests"} == {"model"}
    assert {path.parent.name for path in edited if path.suffix == ".txt"} == {"requirements"}


def same(path: Path, other: Path) -> bool:
    return other.exists() and path.read_bytes() == other.read_bytes()


def test_the_page_shows_three_short_files(repo: Repo) -> None:
    assert [name for name, _ in files(repo)] == ["model/features.py", "model/data.py", "model/estimator.py"]
    assert len([line for _, text in files(repo) for line in text.splitlines() if line]) <= MAX_LINES


def test_a_repo_whose_model_was_replaced_trains_passes_its_tests_and_answers(repo: Repo) -> None:
    for command in ("train", "features", "check"):
        repo.passes(command)
    # The platform's other tests bring models of their own, and run in the default repo.
    asking = [path for path in repo.files() if path.match("tests/platform/*/test_*.py")]
    asking = [path for path in asking if OF_THE_MODEL.search(repo.text(path.as_posix()))]
    assert len(asking) >= LEAST_ASKING
    repo.passes("test", "-q", "tests/model", "tests/guardrails", "tests/test_service.py", *map(str, asking))
    port = str(free_port())
    ports = {"SERVING_GRPC_PORT": port, "SERVING_METRICS_PORT": "0", "PYTHON": sys.executable}
    with served(Block("sh", "make run", ""), repo, os.environ | ports):
        shown = repo.passes("predict", "--target", f"localhost:{port}")
    rows = re.findall(r"^tumour-\d+ +(benign|malignant) +(benign|malignant)$", shown, re.MULTILINE)
    assert len(rows) == 8
    assert all(answered == trained for answered, trained in rows)


@pytest.fixture(scope="module")
def with_libraries(repo: Repo) -> Repo:
    """Add the libraries as the page says."""
    requirements = repo.path / "model" / "requirements.in"
    requirements.write_text(repo.text("model/requirements.in") + "\n".join(LIBRARIES) + "\n", encoding="utf-8")
    repo.passes("lock")
    repo.passes("setup")
    return repo


@pytest.mark.parametrize("name", sorted(path.stem for path in ESTIMATORS.glob("*.py")))
def test_another_librarys_estimator_is_served_as_it_answers_itself(with_libraries: Repo, name: str) -> None:
    repo, (features, *_) = with_libraries, files(with_libraries)
    declared = features[1] if name.endswith("pipeline") else A_TEXT.sub("static=(),", features[1])
    edit(repo, features[0], declared)
    edit(repo, "model/estimator.py", (ESTIMATORS / f"{name}.py").read_text(encoding="utf-8"))
    (repo.path / "model.lock").unlink(missing_ok=True)  # so the demo trains, and refuses an answer that differs
    shown = repo.passes("demo")
    assert "comparing the exported model with the original ..." in shown
    assert "answered by tumour-diagnosis version 1" in shown


F, D, E = "model/features.py", "model/data.py", "model/estimator.py"
LOGISTIC = "from sklearn.linear_model import LogisticRegression"
WITHOUT_CONVERTER = "from sklearn.semi_supervised import LabelPropagation as LogisticRegression"
WRONG_EDITS = [
    (F, '"radius"', '"Radius"', f"{D}: load() returns no column 'Radius'", "it has 'radius'"),
    (F, "Datatype.TEXT", "Datatype.STR", f"{F}, line 5", "the datatypes are BOOL"),
    (F, ", allow_nan=True", "", f"{D}: load(): column 'smoothness' holds NaN", "declare allow_nan=True"),
    (F, 'Datatype.TEXT, default="medium"', "Datatype.INT64", "column 'size' holds text", "datatype=Datatype.TEXT"),
    (F, '"texture"', '"radius"', f"{F}, line 3", "feature names must differ; declared twice: radius"),
    (F, 'default="medium"', "default=2", f"{F}, line 5: feature size", "default is 2, which TEXT can't hold"),
    (D, '"texture": rows["mean texture"],', "", f"{D}: load() returns no column 'texture'", "add it"),
    (
        D,
        'rows["mean radius"]',
        "[[1.0]]",
        f"{D}: load(): column 'radius'",
        "must be [569] by model/features",
    ),
    (D, '"malignant", "benign")', "np.nan, 1.0)", f"{D}: load(): the target of row 0 is NaN", "leave out the rows"),
    (D, "return Dataset(", "return (", f"{D}: load() is a tuple", "must be a Dataset; see docs/model.md"),
    (D, '"mean radius"', '"mean radios"', f"{D}, line 21: KeyError", "The traceback is in build/traceback.txt"),
    (D, "import numpy as np", "import numpi as np", f"{D}, line 1", "add the package to model/requirements.in"),
    (E, 'of="malignant"', 'of="malign"', f"{E}: output malignancy: of='malign' is no class", "'benign', 'malignant'"),
    (E, "Datatype.TEXT", "Datatype.INT64", f"{E}: output diagnosis: the labels are text", "datatype=Datatype.TEXT"),
    (E, 'of="malignant"', "shape=(3,)", f"{E}: output malignancy", "declare shape=(2,)"),
    (E, LOGISTIC, WITHOUT_CONVERTER, f"{E}: LabelPropagation can't be exported to ONNX", "docs/model.md lists what"),
    (E, "return Fitted(", "return tuple((", f"{E}, line 20", "SyntaxError: invalid syntax"),
    (E, "make_pipeline", "make_pipelin", f"{E}, line 4: ImportError", "cannot import name 'make_pipelin'"),
]


@pytest.mark.parametrize(("file", "old", "new", "where", "way_out"), WRONG_EDITS)
def test_a_wrong_edit_gives_one_sentence_with_its_place_and_the_way_out(
    repo: Repo, file: str, old: str, new: str, where: str, way_out: str
) -> None:
    for name, text in files(repo):
        edit(repo, name, text.replace(old, new) if name == file else text)
    assert repo.text(file) != dict(files(repo))[file]
    before = (repo.path / "model.lock").read_bytes() if (repo.path / "model.lock").exists() else None
    done = repo.command("train")
    assert done.returncode == 1
    (sentence, _) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]  # and tasks.py's own
    assert where in sentence
    assert way_out in sentence
    assert "Traceback" not in done.stdout + done.stderr
    after = (repo.path / "model.lock").read_bytes() if (repo.path / "model.lock").exists() else None
    assert after == before
