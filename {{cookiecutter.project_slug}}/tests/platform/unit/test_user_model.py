"""What the user's code raises becomes one sentence that names its file and line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from serving.offline import project, user_model

FEATURES = """import serving.modeling
from serving.modeling import Entity, Feature, FeatureSet
FEATURES = FeatureSet(Entity("key"), (), (Feature("age"),))
"""
DATA = """
import numpy as np
from serving.modeling import Dataset
def load():
    return Dataset(("a", "b"), np.array([1, 2]), {"age": np.array([1.0, 2.0])}, np.array([3.0, 4.0]))
"""
ESTIMATOR = """
from serving.modeling import Fitted, Output
OUTPUTS = (Output("y"),)
def fit(data):
    return Fitted("an estimator", {"rows": len(data)}, {"r2": data.target.mean()})
"""


@pytest.fixture(autouse=True)
def _another_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the platform find another `model/` than this repo's."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "model"}
    monkeypatch.setattr(project, "ROOT", folder)
    monkeypatch.syspath_prepend(str(folder))
    (folder / "model").mkdir()
    for name, text in (("__init__", ""), ("features", FEATURES), ("data", DATA), ("estimator", ESTIMATOR)):
        (folder / "model" / f"{name}.py").write_text(text, encoding="utf-8")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "model"]:
        del sys.modules[name]
    sys.modules.update(before)


def test_three_files_are_a_model() -> None:
    training = user_model.train(user_model.dataset())
    assert training.fitted.parameters == {"rows": 2}
    assert training.fitted.metrics == {"r2": 3.5}
    assert [output.name for output in training.outputs] == ["y"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "features",
            '"age")',
            '"age", datatype=Datatype.STR)',
            "model/features.py, line 3: NameError: name 'Datatype'",
        ),
        ("features", '"age")', '"age", datatype=serving.modeling.Datatype.STR)', "; the datatypes are BOOL, UINT8"),
        ("features", "FeatureSet(E", "FeatureSet((E", "model/features.py, line 3: SyntaxError"),
        (
            "features",
            "(Feature(",
            '(Feature("age"), Feature(',
            "line 3: feature names must differ; declared twice: age",
        ),
        ("features", "FEATURES =", "FEATURE =", "has no attribute 'FEATURES'; docs/model.md lists the names"),
        ("features", "FeatureSet(E", "tuple((E", "model/features.py, line 3: SyntaxError"),
        ("data", "def load", "import nowhere\ndef load", "'nowhere'; add the package to model/requirements.in"),
        ("data", "    return", "    open('rows.csv')\n    return", "model/data.py, line 5: [Errno 2] No such file"),
        ("data", "    return", "    return {}\n    return", "model/data.py: load() is a dict, must be a Dataset"),
        ("data", '("a", "b"), ', "", "model/data.py, line 5: TypeError: Dataset.__init__() missing 1 required"),
        ("estimator", '(Output("y"),)', 'Output("y")', "estimator.py: OUTPUTS is a Output, must be a tuple of Output"),
        ("estimator", '(Output("y"),)', '("y",)', "estimator.py: an entry of OUTPUTS is a str, must be a Output"),
        ("estimator", '(Output("y"),)', '(Output("y"), Output("y"))', "declare at least one, each name once"),
        ("estimator", "return Fitted", "return list", "model/estimator.py, line 5: TypeError"),
        ("estimator", "return Fitted", "Fitted", "estimator.py: fit() is a NoneType, must be a Fitted"),
        ("estimator", ".mean()", "", "model/estimator.py: metric r2 is '[3. 4.]', must be a finite number."),
        ("estimator", "data.target.mean()", "float('nan')", "metric r2 is 'nan', must be a finite number."),
        ("estimator", "len(data)", "[1]", "parameter rows is '[1]', must be a finite number, True"),
    ],
)
def test_a_wrong_edit_gives_one_sentence(folder: Path, file: str, old: str, new: str, message: str) -> None:
    path = folder / "model" / f"{file}.py"
    before = path.read_text(encoding="utf-8")
    assert old in before
    path.write_text(before.replace(old, new), encoding="utf-8")
    with pytest.raises(OperatorError) as refused:
        user_model.train(user_model.dataset())
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    if refused.value.__cause__ is not None:
        assert str(refused.value).endswith("The traceback is in build/traceback.txt.")
        assert "Traceback" in (folder / user_model.TRACEBACK).read_text(encoding="utf-8")
