"""The unrendered tree in the template: tools can read it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import run


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=["lint", "format"])
def test_ruff_accepts_all_of_it(template: Path, command: tuple[str, ...]) -> None:
    done = run([sys.executable, "-m", "ruff", *command, "--no-cache", "."], cwd=template)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_reads_the_generated_repos_code_with_the_rules_of_that_repo(template: Path) -> None:
    broken = template.parent / "broken"
    broken.mkdir()
    for name in ("ruff.toml", "{{cookiecutter.project_slug}}/ruff.toml"):
        (broken / name).parent.mkdir(exist_ok=True)
        (broken / name).write_bytes((template / name).read_bytes())
    (broken / "{{cookiecutter.project_slug}}" / "model.py").write_text("async def f(timeout):\n    open('x')\n")
    done = run([sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", "."], cwd=broken)
    assert "ASYNC230" in done.stdout
