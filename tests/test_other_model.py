"""A repo whose owner has replaced the example by a model of their own stays green.

`other_model/` is that model: a classifier of wines with another entity, other columns and datatypes, an integer label
and an array as outputs.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from local_extensions import ROOT_FOLDER
from tests.support import ROOT, Repo, brought, files_below, generate

EXAMPLE = ROOT / ROOT_FOLDER / "_variants" / "runtime" / "_diabetes"
OTHER = ROOT / "tests" / "other_model"
KEPT = {"model/__init__.py"}
REPLACED = ("model", "tests/model")
OF_THE_EXAMPLE = re.compile(r"diabetes|progression|patients?[-_ ]?(id|\d)|\bpatients\b|\bbmi\b", re.IGNORECASE)


def replace_model(repo: Repo) -> None:
    """Do what the owner of a repo does: delete the example, write another model."""
    for folder in REPLACED:
        for path in (repo.path / folder).rglob("*.py"):
            if path.relative_to(repo.path).as_posix() not in KEPT:
                path.unlink()
        shutil.copytree(OTHER / folder, repo.path / folder, dirs_exist_ok=True)


def test_the_other_model_replaces_every_file_of_the_example() -> None:
    example = {path.as_posix() for path in files_below(EXAMPLE / "model") if path.suffix == ".py"}
    other = {path.as_posix() for path in files_below(OTHER / "model") if path.suffix == ".py"}
    assert {f"model/{path}" for path in example} - KEPT == {f"model/{path}" for path in other}


def test_only_model_and_its_tests_know_the_example() -> None:
    """Whoever replaces the example must not have to look for it elsewhere."""
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in files_below(ROOT / ROOT_FOLDER)
        if path.suffix == ".py" and not (ROOT / ROOT_FOLDER / path).is_relative_to(EXAMPLE)
        for number, line in enumerate((ROOT / ROOT_FOLDER / path).read_text(encoding="utf-8").splitlines(), start=1)
        if OF_THE_EXAMPLE.search(line)
    ]
    assert found == []


@pytest.mark.long
def test_a_repo_with_another_model_and_no_store_passes_what_both_change(template: Path, tmp_path: Path) -> None:
    """tests/test_model_page.py runs all tests that ask the repo's model, with yet another one and a store."""
    repo = other_repo(template, tmp_path / "out", "none")
    own = [path.as_posix() for path in brought(template, "feature_store", "none") if path.match("test_*.py")]
    assert own
    repo.passes("check")
    asked = "tests/platform/integration/test_tritonclient.py"
    repo.passes("test", "-q", "tests/model", "tests/test_service.py", asked, *own)
    assert "answered by wine-cultivar" in repo.passes("demo")


def other_repo(template: Path, folder: Path, feature_store: str) -> Repo:
    """Generate a repo that needs no server, and replace its model."""
    answers = {"project_slug": "wine-cultivar", "feature_store": feature_store, "model_registry": "local"}
    repo = generate(template, folder, answers)
    replace_model(repo)
    return repo
