"""The steps of CONTRIBUTING.md for adding a choice, followed in a copy of the template."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.releases import commit
from tests.support import ROOT, Block, blocks, copy_of_template, generate, run

pytestmark = pytest.mark.long  # it runs whole test files in a copy of the template

GUARDS = ("tests/test_layout.py", "tests/test_locks.py")
NEW = {"feature_store": "share", "model_registry": "local", "python_version": "3.12"}


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A copy of the template after the steps of the page."""
    copy = copy_of_template(tmp_path / "template")
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## Add a choice\n")
    for step in blocks(section.partition("\n## ")[0]):
        follow(copy, step)
    commit(copy, "Add a choice")
    return copy


def follow(copy: Path, step: Block) -> None:
    if step.language == "diff":
        lines = step.text.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
        text = (copy / step.note).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{step.note} has no such line: {old}"
        (copy / step.note).write_text(text.replace(old, new), encoding="utf-8", newline="\n")
    else:
        done = run(["sh", "-e", "-c", step.text], cwd=copy)
        assert done.returncode == 0, done.stderr


def test_a_choice_added_by_the_page_generates_and_breaks_no_rule(changed: Path, tmp_path: Path) -> None:
    repo = generate(changed, tmp_path / "out", NEW)
    assert repo.text("docs/share.md") == "# A feature store on a share\n"
    assert (repo.path / "src/serving/adapters/feature_store/sqlite.py").exists()
    made = ("tests/test_generation.py", "-k", "folders_of_its_choices and share")
    for words in (GUARDS, made):
        done = run([sys.executable, "-m", "pytest", "-q", *words], cwd=changed)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_step_left_out_is_detected(changed: Path) -> None:
    (changed / "docs" / "answers.md").write_bytes((ROOT / "docs" / "answers.md").read_bytes())
    done = run([sys.executable, "-m", "pytest", "-q", "tests/test_layout.py", "-k", "same_set"], cwd=changed)
    assert done.returncode == 1
    assert "1 failed" in done.stdout
