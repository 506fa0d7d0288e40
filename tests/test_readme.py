"""The commands on the template's pages work and print what the pages show."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support import ROOT, SAMPLE, Repo, assert_shown, blocks, copy_of_template, run
from tools.recording import PICTURE, comparable, draw, drawn, shown

PAGES = ("README.md", "CONTRIBUTING.md", "docs/answers.md", "docs/peers.md", "docs/updating.md")
RUNNABLE = {"sh", "python"}
TREE = "the tree of a generated repo"
DEMO = "make demo\n"

PUBLISHED = "not run: needs the template where it is published"
NOT_RUN = {
    "README.md": [
        "not run: the template is not published yet; put your organization for `org`",
        "not run here: the generated repo's docs/feature-store.md has the same lines, and a test runs them",
        "not run: takes half an hour; tests/test_peers_page.py compares the plot with the results",
    ],
    "CONTRIBUTING.md": ["not run: they are what runs this", "not run: they take minutes to hours"],
    "docs/answers.md": [PUBLISHED, f"{PUBLISHED}, and uv", f"{PUBLISHED}, and pipx", PUBLISHED],
    "docs/peers.md": ["not run: takes half an hour; tests/test_peers_page.py compares this page with the results"],
    # tests/test_updates.py runs these commands on releases that it makes.
    "docs/updating.md": [PUBLISHED, "not run: needs a newer release"],
}
QUESTIONS_IN_A_MAP = 10
MAX_LINE = 120


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_what_is_not_run_is_known_and_says_why() -> None:
    found = {
        page: [block.note for block in blocks(text_of(page)) if block.note.startswith("not run")] for page in PAGES
    }
    assert found == NOT_RUN


def test_the_commands_work_in_a_fresh_clone_and_print_the_shown_output(tmp_path: Path) -> None:
    clone = copy_of_template(tmp_path / "clone")
    environment = os.environ | {"PYTHON": sys.executable, "HOME": str(tmp_path)}
    # uv's cache, which it would otherwise look for in the home folder.
    environment.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    printed: dict[str, str] = {}
    for block in blocks(text_of("README.md")):
        if block.language in RUNNABLE and not block.note:
            done = run(["sh", "-e", "-c", block.text], cwd=clone, environment=environment)
            assert done.returncode == 0, f"{block.text}\n{done.stdout}{done.stderr}"
            printed[block.text] = done.stdout
        elif block.language == "text" and block.note != TREE:
            assert_shown(block.text, list(printed.values())[-1])
    assert len(printed) >= 2
    assert (clone / "build" / "own" / "fraud-score" / "README.md").exists()
    # `make recording` draws the picture again.
    assert comparable(drawn(PICTURE.read_text(encoding="utf-8"))) == comparable(shown(printed[DEMO]))


def test_the_recording_is_compared_without_its_varying_parts() -> None:
    printed = "x\ngenerating a repo <1>\n a  12.5 sha256=" + 64 * "a" + " localhost:80\nanswered by m\nThat was"
    lines = shown(printed)
    assert lines == [
        "$ make demo",
        "generating a repo <1>",
        " a  12.5 sha256=aaaaaaaa... localhost:80",
        "answered by m",
    ]
    assert drawn(draw(lines)) == lines
    ElementTree.fromstring(draw(lines))  # noqa: S314 - our own text
    other = printed.replace("12.5", "7.25").replace("aaaaaaaa", "bbbbbbbb").replace(":80", ":81")
    assert comparable(shown(other)) == comparable(lines)
    assert comparable(shown(printed.replace("<1>", "<2>"))) != comparable(lines)


def test_every_link_to_a_file_resolves() -> None:
    for page in PAGES:
        links = [link for link in re.findall(r"\]\(([^)]+)\)", text_of(page)) if "://" not in link]
        folder = (ROOT / page).parent
        assert [link for link in links if not (folder / link.partition("#")[0]).exists()] == [], page


def test_the_call_in_python_is_the_one_that_a_generated_page_has(generated: Callable[..., Repo]) -> None:
    (call,) = [block.text for block in blocks(text_of("README.md")) if block.language == "python"]
    assert call in [block.text for block in blocks(generated().text("docs/feature-store.md"))]


def test_the_tree_shows_only_existing_files(generated: Callable[..., Repo]) -> None:
    (tree,) = [block.text for block in blocks(text_of("README.md")) if block.note == TREE]
    paths = [line.split()[0] for line in tree.splitlines()]
    for choices in SAMPLE:
        repo = generated(**choices)
        assert [path for path in paths if not (repo.path / path).exists()] == []


def test_the_map_of_files_leads_to_what_is_there() -> None:
    _, _, section = text_of("CONTRIBUTING.md").partition("\n## Which file?\n")
    rows = re.findall(r"^\| (.*\?) \| (.*) \|$", section.partition("\n## ")[0], re.MULTILINE)
    assert len(rows) >= QUESTIONS_IN_A_MAP
    for question, answer in rows:
        paths = re.findall("`([^`]+)`", answer)
        assert paths, question
        missing = [path for path in paths if not list(ROOT.glob(re.sub(r"<\w+>", "*", path)))]
        assert missing == [], question


@pytest.mark.parametrize("page", [*PAGES, *(f"docs/adr/{path.name}" for path in (ROOT / "docs" / "adr").iterdir())])
def test_lines_are_short_enough_for_an_editor(page: str) -> None:
    prose = re.sub(r"^```\w*\n.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in prose.splitlines() if len(line) > MAX_LINE and not line.startswith("|")] == []
