"""The pre-commit hooks pass in the template and in a new repo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import SAMPLE, Repo, copy_of_template, generate, run

pytestmark = pytest.mark.long  # the hooks' environments are installed from the package index


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Run all hooks on all files of a folder."""
    environment = os.environ | {"PRE_COMMIT_HOME": str(tmp_path_factory.mktemp("pre-commit"))}

    def run_hooks(folder: Path) -> None:
        # Hooks run on what git knows.
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
        done = run([sys.executable, "-m", "pre_commit", "run", "--all-files"], cwd=folder, environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("Passed") > 1

    return run_hooks


def test_the_hooks_pass_in_the_template(check: Callable[[Path], None], tmp_path: Path) -> None:
    check(copy_of_template(tmp_path / "clone"))


def test_the_hooks_pass_in_repos_of_all_choices(check: Callable[[Path], None], template: Path, tmp_path: Path) -> None:
    for number, choices in enumerate(SAMPLE):
        repo: Repo = generate(template, tmp_path / str(number), choices)
        check(repo.path)
