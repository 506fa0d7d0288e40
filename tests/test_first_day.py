"""The first day with a repo: the printed next steps, typed as printed, then a colleague's clone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Repo, cookiecutter, run
from tests.test_end_to_end import served

SOMEBODY = {f"GIT_{role}_{what}": "somebody" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENVIRONMENT = os.environ | SOMEBODY | {"PYTHON": sys.executable}
PINNED = ["model.lineage.json", "model.lock"]
NEEDS_AN_ENGINE = "make up"  # the template's tests/containers runs it
SAYS_REBUILD = "not in the registry of this machine; `make rebuild` trains it from this checkout."


def shell(command: str, folder: Path) -> str:
    """Run a shell command that must succeed; return its output."""
    done = run(["sh", "-e", "-c", command], cwd=folder, environment=ENVIRONMENT)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def changed(repo: Repo) -> list[str]:
    """Return the paths that git reports as changed or new."""
    return sorted(line[3:] for line in shell("git status --porcelain", repo.path).splitlines())


def next_steps(printed: str) -> list[str]:
    """Return the commands of the printed next steps."""
    steps = re.findall(r"^  (cd \S.*|make \w+)", printed.partition("Next:\n")[2], re.MULTILINE)
    assert len(steps) >= 4
    return [step for step in steps if step != NEEDS_AN_ENGINE]


@pytest.fixture(scope="module")
def own(template: Path, module_path: Path) -> Repo:
    """A new repo after all of its next steps, committed."""
    folder = module_path / "first-day"
    begin, *commands = next_steps(cookiecutter(template, folder).stderr)
    shell(begin, folder)
    repo = Repo(folder / begin.split()[1])
    assert commands[:2] == ["make demo", "make train"]
    for command in commands:
        printed = shell(command, repo.path)
        if command == "make demo":
            assert "answered by diabetes-progression version 1, sha256=" in printed
        assert changed(repo) == ([] if command == "make demo" else PINNED)
    shell("git add --all && git commit --quiet --message Train", repo.path)
    return repo


@pytest.fixture
def clone(own: Repo, tmp_path: Path) -> Repo:
    shell(f'git clone --quiet "{own.path}" clone', tmp_path)
    return Repo(tmp_path / "clone")


def test_after_the_next_steps_training_gives_the_same_version_and_the_status_is_clean(own: Repo) -> None:
    assert "wrote model.lock" not in own.passes("train")
    assert changed(own) == []
    # It also trains, and once failed in every committed repo.
    committed = ("tests/platform/integration/test_scripts.py", "-k", "without_promoting")
    assert "1 passed" in own.passes("test", *committed)


@pytest.mark.long
def test_a_clone_shows_a_prediction_rebuilds_the_pinned_version_and_serves_it(own: Repo, clone: Repo) -> None:
    printed = clone.passes("demo")
    assert SAYS_REBUILD in printed
    assert "answered by" in printed
    refused = clone.command("run")
    assert refused.returncode == 1
    assert SAYS_REBUILD in refused.stderr
    assert "Traceback" not in refused.stderr
    reference = own.text("model.lock").removeprefix("MODEL_VERSION=").strip()
    assert clone.passes("rebuild").endswith(f"rebuilt {reference}\n")
    with served([sys.executable, str(clone.path / "tools" / "tasks.py"), "run"], clone) as address:
        clone.passes("features")
        assert f"version 1, {reference.partition('#')[2]}" in clone.passes("predict", "--target", address)
    assert "training on" not in clone.passes("demo")
    assert changed(clone) == []


@pytest.mark.long
def test_a_clone_with_one_changed_row_does_not_pass_for_the_pinned_version(clone: Repo) -> None:
    data = clone.path / "model" / "data.py"
    text = data.read_text(encoding="utf-8")
    other = text.replace("bunch.target.astype", "np.append(bunch.target[:-1], 1).astype")
    assert other != text
    data.write_text(other, encoding="utf-8")
    refused = clone.command("rebuild")
    assert refused.returncode == 1
    (sentence,) = [line for line in refused.stderr.splitlines() if "can't be rebuilt" in line]
    assert "the training data differs (sha256=" in sentence
    assert changed(clone) == ["model/data.py"]
    assert list((clone.path / "registry").iterdir()) == []
    # If trained anyway, it becomes another version.
    assert "registered local:diabetes-progression/2#sha256=" in clone.passes("train")
    assert changed(clone) == sorted(["model/data.py", *PINNED])


@pytest.mark.long
def test_an_archive_without_git_gives_the_same_version(own: Repo, tmp_path: Path) -> None:
    shell(f'git -C "{own.path}" archive --format=tar --output="{tmp_path}/repo.tar" HEAD', tmp_path)
    unpacked = Repo(tmp_path / "unpacked")
    unpacked.path.mkdir()
    subprocess.run(["tar", "-xf", str(tmp_path / "repo.tar"), "-C", str(unpacked.path)], check=True)
    before = [unpacked.text(name) for name in PINNED]
    unpacked.passes("train")
    assert [unpacked.text(name) for name in PINNED] == before
