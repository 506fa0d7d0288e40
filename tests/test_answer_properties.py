"""Any answers are either refused with a way out, or written unchanged into files that still parse.

Each run draws other answers. A failure prints its seed; `SEED=... make test ARGS="-k properties"` draws them again.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from multiprocessing import get_context
from pathlib import Path

import pytest
from cookiecutter.environment import StrictEnvironment
from cookiecutter.exceptions import FailedHookException
from slugify import slugify

import local_extensions as gate
from tests import hostile
from tests.reading import Found, bake_and_read
from tests.support import PROMPTS, QUESTIONS, tool

CHECKED = 10_000
FEW, MANY = 20, 100
WORKERS = 2
TIMEOUT_S = 300.0
NEEDED_TO_FINISH = ("finish.py", "tasks.py", "_extends")
STEERING = {key: PROMPTS[key] for key in gate._STEERING if key in PROMPTS}


@pytest.fixture(scope="module")
def seed() -> int:
    return int(os.environ.get("SEED", secrets.randbits(32)))


@pytest.fixture(scope="module")
def drawn(seed: int) -> list[dict[str, object]]:
    chance = hostile.drawer(seed)
    return [hostile.answers(chance) for _ in range(CHECKED)]


def test_any_answers_are_accepted_or_refused_with_a_command_that_is_accepted(
    seed: int, drawn: list[dict[str, object]]
) -> None:
    print(f"SEED={seed}")
    # Cookiecutter compiles this first, whichever way answers come in.
    root_folder = StrictEnvironment(context={"cookiecutter": PROMPTS}).from_string(gate.ROOT_FOLDER)
    accepted = 0
    for given in drawn:
        try:
            folder = root_folder.render(cookiecutter=STEERING | given)
        except FailedHookException as refusal:
            assert_shows_a_way_out(given, str(refusal))
        else:
            assert folder == given["project_slug"]
            accepted += 1
    assert CHECKED / 4 <= accepted <= CHECKED * 3 / 4


def assert_shows_a_way_out(given: dict[str, object], said: str) -> None:
    faults = {fault.field for fault in gate.check(STEERING | given, slugify)}
    assert faults, given
    assert all(f"  {field} = " in said for field in faults)
    listed, _, command = said.rpartition("\n\n")
    assert listed.replace("\n", "").isprintable()
    assert listed.isascii()
    answers = dict(word.split("=", 1) for word in shlex.split(command) if "=" in word)
    assert gate.check(STEERING | answers, slugify) == [], command
    assert answers == {key: answers[key] if key in faults else given[key] for key in QUESTIONS}


@pytest.mark.parametrize("mark", gate.SYNTAX)
def test_any_text_with_template_syntax_is_rendered_unchanged(seed: int, mark: str) -> None:
    print(f"SEED={seed}")
    chance = hostile.drawer(seed)
    environment = StrictEnvironment(context={"cookiecutter": PROMPTS})
    for _ in range(100):
        text = f"{hostile.text(chance)}{mark}{hostile.text(chance)}"
        assert environment.from_string(text).render() == text


@pytest.fixture(scope="module")
def rendered(template: Path, light: Path) -> Path:
    """The template without the files that are copied unrendered: no answer reaches them, and most files are such."""
    return slimmed(template, light / "rendered", is_copied)


@pytest.fixture(scope="module")
def with_syntax(rendered: Path, light: Path) -> Path:
    """The rendered files that have template syntax: the others are the same bytes for all answers."""
    return slimmed(rendered, light / "with-syntax", has_no_syntax)


def slimmed(template: Path, slim: Path, unneeded: Callable[[Path], bool]) -> Path:
    """Copy a template without these files of the generated repo, and without folders that are empty then."""
    shutil.copytree(template, slim)
    choices = set((slim / gate.ROOT_FOLDER / "_variants").glob("*/*"))  # a choice is its folder, even if that is empty
    for path in sorted((slim / gate.ROOT_FOLDER).rglob("*"), reverse=True):  # a folder after what is in it
        if path.is_dir():
            if path not in choices and not any(path.iterdir()):
                path.rmdir()
        elif path.name not in NEEDED_TO_FINISH and unneeded(path):
            path.unlink()
    return slim


def is_copied(path: Path) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in PROMPTS["_copy_without_render"])


def has_no_syntax(path: Path) -> bool:
    return not any(mark.encode() in path.read_bytes() for mark in gate.SYNTAX)


@pytest.mark.parametrize(
    ("count", "files"), [(FEW, "rendered"), pytest.param(MANY, "with_syntax", marks=pytest.mark.long)]
)
def test_any_answers_that_are_let_through_land_whole_in_files_that_parse(
    seed: int,
    drawn: list[dict[str, object]],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    count: int,
    files: str,
) -> None:
    print(f"SEED={seed}")
    accepted = [given for given in drawn if not gate.check(STEERING | given, slugify)]
    chosen = hostile.drawer(seed).sample(accepted, count)
    template: Path = request.getfixturevalue(files)
    shares = [(template, tmp_path / str(number), chosen[number::WORKERS]) for number in range(WORKERS)]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as workers:
        found = [done.result(TIMEOUT_S) for done in [workers.submit(bake_and_read, *share) for share in shares]]
    read = Found.all_of(found)
    assert read.faults == []
    assert len(read.dockerfiles) >= count
    # These share one run, since starting is slow.
    folder = tmp_path / "dockerfiles"
    folder.mkdir()
    for number, text in enumerate(sorted(read.dockerfiles)):
        (folder / f"{number}.Dockerfile").write_text(text, encoding="utf-8")
    tool("hadolint", *sorted(path.name for path in folder.iterdir()), cwd=folder)
    script = "\n".join(sorted(read.scripts))
    subprocess.run(["sh", "-n"], input=script, text=True, encoding="utf-8", check=True, timeout=TIMEOUT_S)
