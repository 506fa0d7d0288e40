"""The README is true: its commands do what it says and print what it shows."""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from pathlib import Path

from tests.support import ROOT, blocks, copy_of_template, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNNABLE = {"sh", "python"}

NOT_RUN = {
    "make test\n": "not run: it is what runs this",
    "cookiecutter gh:org/ml-serving-template\n": "not run: needs the template where it is published",
    "uvx cookiecutter gh:org/ml-serving-template\n": "not run: needs the template where it is published, and uv",
    "pipx run cookiecutter gh:org/ml-serving-template\n": "not run: needs the template where it is published, and pipx",
    "cookiecutter gh:org/ml-serving-template --checkout v0.1.0\n": "not run: needs the template where it is published",
}


def test_what_is_not_run_is_known_and_says_why() -> None:
    notes = {block.text: block.note for block in blocks(README) if block.language in RUNNABLE and block.note}
    cruft = {text: note for text, note in notes.items() if "cruft " in text}
    assert {text: note for text, note in notes.items() if text not in cruft} == NOT_RUN
    # tests/test_updates.py runs these commands on releases that it makes.
    assert list(cruft.values()) == [
        "not run: needs the template where it is published",
        "not run: needs a newer release",
    ]


def test_its_commands_work_in_a_fresh_clone_and_print_what_it_shows(tmp_path: Path) -> None:
    clone = copy_of_template(tmp_path / "clone")
    environment = os.environ | {"PYTHON": sys.executable, "HOME": str(tmp_path)}
    # Where uv keeps what it has fetched; it would be looked for in the home folder.
    environment.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    said = ""
    ran = 0
    for block in blocks(README):
        if block.language in RUNNABLE and not block.note:
            done = run(["sh", "-e", "-c", block.text], cwd=clone, environment=environment)
            assert done.returncode == 0, f"{block.text}\n{done.stdout}{done.stderr}"
            said = done.stdout + done.stderr
            ran += 1
        elif block.language == "text":
            assert_shown(block.text, said)
    assert ran >= 2
    assert (clone / "build" / "own" / "fraud-score" / "README.md").exists()


def assert_shown(shown: str, said: str) -> None:
    """Every line that is shown was said, in that order; `...` stands for anything."""
    lines = iter(said.splitlines())
    for expected in shown.splitlines():
        pattern = re.sub(r"\[", "[[]", expected).replace("...", "*")
        assert any(fnmatch.fnmatchcase(line, pattern) for line in lines), f"{expected!r} is not in:\n{said}"


def test_every_link_to_a_file_leads_to_one() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []
