"""Models move in from MLServer and from `mlflow models serve`: both servers run here, and answer as the repo does.

The models are trained on data sets that scikit-learn bundles, and every row is compared.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.peers import servers
from tests.support import Repo, generate, run
from tests.test_end_to_end import served

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.version_info >= (3, 13), reason="MLServer 1.7.1 needs a Python below 3.13"),
]

PROGRAMS = Path(servers.__file__).parent
# ONNX computes in FP32, and the import accepts no more than this.
RELATIVE, ABSOLUTE = 1e-4, 1e-6
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Case:
    """A model of MLServer, and how its callers call it."""

    model: str
    data: str
    rows: int
    input: str
    datatype: str
    outputs: tuple[str, ...]
    answers: tuple[str, ...]

    def __str__(self) -> str:
        return self.model


CASES = (
    # Text labels of scikit-learn, and the name that MLServer's own examples give to the input.
    Case("tumor", "cancer", 569, "predict", "FP32", ("predict", "predict_proba"), ("BYTES [569, 1]", "FP32 [569, 2]")),
    # A regressor, asked in FP64, as NumPy's numbers are.
    Case("progression", "diabetes", 442, "input-0", "FP64", ("predict",), ("FP64 [442, 1]",)),
    Case("cultivar", "wine", 178, "x", "FP32", ("predict", "predict_proba"), ("INT64 [178, 1]", "FP32 [178, 3]")),
    # A booster without scikit-learn's interface: `predict` answers with a probability.
    Case("risk", "cancer", 569, "predict", "FP32", ("predict",), ("FP32 [569, 1]",)),
)


@pytest.fixture(scope="module")
def repo(template: Path, module_path: Path) -> Repo:
    """A repo with models of MLServer in `mlserver/` and of MLflow in `mlflow/`."""
    made = generate(template, module_path / "peers", {"feature_store": "none"})
    done = run([str(servers.mlflow_python()), str(PROGRAMS / "models.py"), str(made.path)], cwd=made.path)
    assert done.returncode == 0, done.stderr
    made.passes("setup")
    return made


@pytest.fixture(scope="module")
def mlserver(repo: Repo) -> Iterator[str]:
    """The address of MLServer with all its models."""
    with servers.mlserver(repo.path / "mlserver") as target:
        yield target


def moved_in(repo: Repo, *words: str) -> None:
    """Import a model and pin it."""
    reference = repo.passes("versions", "import", "--trusted", *words).splitlines()[-1]
    repo.passes("promote", reference)


def answered(command: list[str], repo: Repo) -> Any:
    done = run(command, cwd=repo.path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def close(values: list[Any]) -> list[Any]:
    """Return what equals these values up to the tolerance of an import; text and whole numbers must be the same."""
    if isinstance(values[0], list):
        return [close(row) for row in values]
    return [pytest.approx(value, rel=RELATIVE, abs=ABSOLUTE) if isinstance(value, float) else value for value in values]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_tritonclient_program_written_for_mlserver_works_unchanged(repo: Repo, mlserver: str, case: Case) -> None:
    matrix = case.input if case.datatype == "FP32" else f"{case.input}:{case.datatype}"
    moved_in(repo, f"mlserver/{case.model}", "--rows", f"{case.data}.csv", "--matrix", matrix)
    program = [str(servers.mlserver_python()), str(PROGRAMS / "tritonclient_program.py")]
    call = [case.model, case.input, case.datatype, f"{case.data}.csv"]
    with served([repo.python, "-m", "tools.run"], repo) as ours:
        for outputs in ((), case.outputs):
            theirs = answered([*program, mlserver, *call, *outputs], repo)
            here = answered([*program, ours, *call, *outputs], repo)
            for name, answer in theirs.items():
                assert here[name] == answer | {"values": close(answer["values"])}
        found = tuple(f"{answer['datatype']} {answer['shape']}" for answer in theirs.values())
    assert found == case.answers
    assert {len(answer["values"]) for answer in theirs.values()} == {case.rows}


@pytest.mark.parametrize(
    ("model", "data", "rows", "output"),
    [
        ("tumor", "cancer", 569, "label"),
        ("cultivar", "wine", 178, "label"),
        ("progression", "diabetes", 442, "prediction"),
    ],
)
def test_mlflow_models_serve_predicts_every_row_as_the_repo_does(
    repo: Repo, model: str, data: str, rows: int, output: str
) -> None:
    titles, *lines = repo.text(f"{data}.csv").splitlines()
    table = {"columns": titles.split(","), "data": [[float(cell) for cell in line.split(",")] for line in lines]}
    with servers.mlflow_models_serve(repo.path / "mlflow" / model) as address:
        asked = urllib.request.Request(  # noqa: S310 - an address made here
            f"{address}/invocations",
            data=json.dumps({"dataframe_split": table}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as reply:  # noqa: S310
            theirs = json.load(reply)["predictions"]
    moved_in(repo, f"mlflow/{model}", "--rows", f"{data}.csv")
    with served([repo.python, "-m", "tools.run"], repo) as ours:
        here = answered([repo.python, str(PROGRAMS / "columns_program.py"), ours, f"{data}.csv"], repo)
    assert len(theirs) == rows
    assert here[output] == close(theirs)
