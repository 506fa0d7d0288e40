"""With the runtime `python`, each library's own file is served as the estimator answers itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import Repo, generate
from tests.test_model_page import A_TEXT, ESTIMATORS, LIBRARIES, edit, files

pytestmark = pytest.mark.long

# Those without a pipeline: each library writes its own format. The pipelines are skops files.
ALONE = sorted(path.stem for path in ESTIMATORS.glob("*.py") if not path.stem.endswith("pipeline"))
A_RULE = '''
import numpy as np

from serving.modeling import Answer, Dataset, Datatype, Fitted, Output

OUTPUTS = (Output("diagnosis", Answer.LABEL, Datatype.TEXT),)


class Rule:
    """A model of no library."""

    classes_ = ("benign", "malignant")

    def predict(self, rows):
        return np.array(self.classes_)[(rows["radius"].to_numpy() > 15).astype(int)]


def fit(data: Dataset) -> Fitted:
    return Fitted(Rule())
'''


@pytest.fixture(scope="module")
def repo(template: Path, module_path: Path) -> Repo:
    """A new repo with the page's model and the libraries of all estimators."""
    answers = {"feature_store": "sqlite", "model_registry": "local", "runtime": "python"}
    made = generate(template, module_path / "python" / "out", answers)
    for name, text in files(made):
        edit(made, name, text)
    (made.path / "tests" / "model" / "test_training_data.py").unlink()
    requirements = made.path / "model" / "requirements.in"
    added = "\n".join([*LIBRARIES, "cloudpickle"])
    requirements.write_text(f"{requirements.read_text(encoding='utf-8')}{added}\n", encoding="utf-8")
    made.passes("lock")
    return made


def test_the_server_gets_the_library_named_in_the_model_folder_and_no_other(template: Path, tmp_path: Path) -> None:
    made = generate(template, tmp_path / "out", {"feature_store": "sqlite", "runtime": "python"})
    (made.path / "model" / "requirements.in").write_text("xgboost-cpu>=3\n", encoding="utf-8")
    made.passes("lock")
    served = re.findall(r"^[\w-]+(?===)", made.text("requirements/runtime.txt"), re.MULTILINE)
    assert "xgboost-cpu" in served
    assert {"scikit-learn", "skops", "pandas"}.isdisjoint(served)


def test_a_pipeline_with_text_is_trained_checked_and_served(repo: Repo) -> None:
    assert "answered by" in repo.passes("demo")
    repo.passes("check")
    repo.passes("test", "-q")


@pytest.mark.parametrize("name", ALONE)
def test_a_librarys_own_file_is_served_as_the_estimator_answers_itself(repo: Repo, name: str) -> None:
    (features, *_) = files(repo)
    edit(repo, features[0], A_TEXT.sub("static=(),", features[1]))
    edit(repo, "model/estimator.py", (ESTIMATORS / f"{name}.py").read_text(encoding="utf-8"))
    shown = repo.passes("demo")
    assert "comparing the exported model with the original ..." in shown
    assert "answered by" in shown


def test_a_model_of_no_library_is_a_pickle_that_must_be_accepted(repo: Repo) -> None:
    (features, *_) = files(repo)
    edit(repo, features[0], A_TEXT.sub("static=(),", features[1]))
    edit(repo, "model/estimator.py", A_RULE)
    refused = repo.command("demo")
    assert "Rule can only be pickled, and config/runtime.toml accepts no pickle" in refused.stderr
    settings = repo.path / "config" / "runtime.toml"
    settings.write_text(repo.text("config/runtime.toml").replace("accept_pickle = false", "accept_pickle = true"))
    assert "answered by" in repo.passes("demo")
