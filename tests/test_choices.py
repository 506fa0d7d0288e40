"""Each choice keeps what it promises, alone and beside each choice of every other axis.

What proving a choice costs is a sum, never a product. The platform's own tests run once, in the default repo, where
its README says so (test_generated_readme.py). Here every other choice is in one repo that runs the static checks, the
tests that the choice brings, and those that start a server and the scripts. What is left is that two choices meet:
every pair is in one repo that trains, serves and predicts.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_extensions import ROOT_FOLDER
from tests.support import (
    AXES,
    COMBINATIONS,
    ROOT,
    SAMPLE,
    combination_id,
    covering,
    expected_files,
    files_below,
    generate,
    pairs,
)

WHERE_CHOICES_MEET = (
    "tests/integration/test_defaults.py",
    "tests/integration/test_scripts.py",
    "tests/integration/test_start.py",
)
FURTHER_PAIRS = covering(SAMPLE, AXES)


def test_every_pair_of_choices_is_run() -> None:
    run = {pair for choices in [*SAMPLE, *FURTHER_PAIRS] for pair in pairs(choices, AXES)}
    assert run == {pair for choices in COMBINATIONS for pair in pairs(choices, AXES)}


def test_no_choice_imports_what_another_axis_brings() -> None:
    brought = {axis: dict(modules(ROOT / ROOT_FOLDER / "_variants" / axis)) for axis in AXES}
    for axis, elsewhere in itertools.permutations(AXES, 2):
        used = {name for path in brought[axis].values() for name in imported(path)}
        assert used.isdisjoint(brought[elsewhere]), (axis, elsewhere)


def modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """Give the modules that the choices of an axis bring, by the name under which a repo imports them."""
    for path in folder.rglob("*.py"):
        _, *inside = path.relative_to(folder).with_suffix("").parts
        yield ".".join(inside[1:] if inside[0] == "src" else inside), path


def imported(path: Path) -> Iterator[str]:
    """Give every name that a file may import a module by."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))


@pytest.mark.long
@pytest.mark.parametrize("choices", SAMPLE[1:], ids=combination_id)
def test_a_choice_passes_the_checks_and_its_own_tests(template: Path, tmp_path: Path, choices: dict[str, str]) -> None:
    repo = generate(template, tmp_path / "out", choices)
    brought = set(expected_files(template, choices)) - set(files_below(template / ROOT_FOLDER))
    tests = sorted(path.as_posix() for path in brought if path.name.startswith("test_") and path.suffix == ".py")
    assert tests
    repo.passes("check")
    repo.passes("test", "-q", *tests, *WHERE_CHOICES_MEET)


@pytest.mark.long
@pytest.mark.parametrize("choices", FURTHER_PAIRS, ids=combination_id)
def test_a_further_pair_trains_serves_and_predicts(template: Path, tmp_path: Path, choices: dict[str, str]) -> None:
    assert "answered by" in generate(template, tmp_path / "out", choices).passes("demo")
