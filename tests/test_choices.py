"""Every choice works, alone and together with every choice of every other axis.

What proving a choice costs is a sum, never a product. The platform's own tests run once, in the default repo, where
its README says so (test_generated_readme.py). Here every other choice is in one repo that runs the static checks, the
tests that the choice brings, and those that start a server and the scripts. What is left is that two choices meet:
every pair that brings code is in one repo that trains, serves and predicts.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from local_extensions import ROOT_FOLDER
from tests.support import (
    AXES,
    CHOICES,
    ROOT,
    SAMPLE,
    brought,
    combination_id,
    covering,
    generate,
    pairs,
)

SCRIPTS = "tests/platform/integration/test_scripts.py"
START = "tests/platform/integration/test_start.py"
# The others of these files train or start a server, too, but ask nothing of a choice.
WHERE_CHOICES_MEET = (
    "tests/platform/integration/test_defaults.py",
    f"{START}::test_a_verified_model_is_served_from_a_reference_in_the_environment",
    f"{START}::test_a_read_only_folder_is_enough_to_serve_from",
    f"{SCRIPTS}::test_training_again_on_the_same_data_gives_the_same_version",
    f"{SCRIPTS}::test_promoting_pins_the_champion_and_rolling_back_pins_the_one_before",
)
# The platform's tests of a slot through which every call goes: each of its choices passes them.
THROUGH_THE_SLOT = {
    "grpc_transport": [
        "tests/platform/integration/test_fuzz.py",
        "tests/platform/integration/test_health.py",
        "tests/platform/integration/test_lifecycle.py",
        "tests/platform/integration/test_malformed.py",
        "tests/platform/integration/test_observability.py",
        "tests/platform/integration/test_overload.py",
        START,
        "tests/platform/integration/test_tls.py",
        "tests/platform/integration/test_unending.py",
    ]
}
# The axes whose choices bring code that trains, serves or predicts; the others bring manifests and pipelines.
AT_WORK = [axis for axis in AXES if next((ROOT / ROOT_FOLDER / "_variants" / axis).glob("*/src"), None)]
FURTHER_PAIRS = covering(SAMPLE, AT_WORK)


def test_every_pair_of_choices_is_run() -> None:
    run = {pair for choices in [*SAMPLE, *FURTHER_PAIRS] for pair in pairs(choices, AT_WORK)}
    assert run == {
        ((one, choice), (other, another))
        for one, other in itertools.combinations(AT_WORK, 2)
        for choice, another in itertools.product(CHOICES[one], CHOICES[other])
    }


def test_no_choice_imports_modules_of_another_axis() -> None:
    brought = {axis: dict(own_modules(axis)) for axis in AXES}
    for axis, elsewhere in itertools.permutations(AXES, 2):
        used = {name for path in brought[axis].values() for name in imported(path)}
        assert used.isdisjoint(brought[elsewhere]), (axis, elsewhere)


def own_modules(axis: str) -> Iterator[tuple[str, Path]]:
    """Return the modules of an axis that some of its choices do not bring: a module of all choices is the slot."""
    every = dict(modules(ROOT / ROOT_FOLDER / "_variants" / axis))
    slot = set[str](every).intersection(*(named(brought(ROOT, axis, choice)) for choice in CHOICES[axis]))
    return ((name, path) for name, path in every.items() if name not in slot)


def modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """Return the modules that the choices of an axis add, by import name."""
    for path in folder.rglob("*.py"):
        yield from ((name, path) for name in named([Path(*path.relative_to(folder).parts[1:])]))


def named(paths: Iterable[Path]) -> set[str]:
    """Return the import names of modules, by their paths in a repo."""
    parts = [path.with_suffix("").parts for path in paths if path.suffix == ".py"]
    return {".".join(inside[1:] if inside[0] == "src" else inside) for inside in parts}


def imported(path: Path) -> Iterator[str]:
    """Return every name by which a file may import a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))


@pytest.mark.long
@pytest.mark.parametrize("number", range(1, len(SAMPLE)), ids=lambda number: combination_id(SAMPLE[number]))
def test_a_choice_passes_the_checks_and_its_own_tests(template: Path, tmp_path: Path, number: int) -> None:
    repo = generate(template, tmp_path / "out", SAMPLE[number])
    repo.passes("check")
    repo.passes("test", "-q", *own_tests(template, number), *through_slots(number), *WHERE_CHOICES_MEET)


def own_tests(template: Path, number: int) -> list[str]:
    """Return the tests that a repo's choices add, unless an earlier repo has run them.

    What choices share is tested with each of them, unless the test is of one module alone.
    """
    run = {test for choices in SAMPLE[:number] for test in brought_tests(template, choices)}
    new = brought_tests(template, SAMPLE[number]) - run
    assert new
    return sorted(path for path, _ in new)


def through_slots(number: int) -> list[str]:
    """Return the tests of each slot whose choice no later repo has; the default repo has run them with its own."""
    default, choices, later = SAMPLE[0], SAMPLE[number], SAMPLE[number + 1 :]
    return [
        test
        for axis, tests in THROUGH_THE_SLOT.items()
        if choices[axis] != default[axis] and all(other[axis] != choices[axis] for other in later)
        for test in tests
    ]


def brought_tests(template: Path, choices: Mapping[str, str]) -> set[tuple[str, str]]:
    """Return each test that the choices add, with the one choice that it tests, if there is one."""
    return {
        (path.as_posix(), "" if path.parts[1] in ("contract", "unit") else choices[axis])
        for axis in AXES
        for path in brought(template, axis, choices[axis])
        if path.name.startswith("test_") and path.suffix == ".py"
    }


@pytest.mark.long
@pytest.mark.parametrize("choices", FURTHER_PAIRS, ids=combination_id)
def test_a_further_pair_trains_serves_and_predicts_and_a_demo_changes_nothing(
    template: Path, tmp_path: Path, choices: dict[str, str]
) -> None:
    repo = generate(template, tmp_path / "out", choices)
    before = {path: (repo.path / path).read_bytes() for path in repo.files()}
    assert "answered by" in repo.passes("demo")
    kept = [path for path in repo.files() if path.parts[0] not in ("build", ".venv") and path.suffix != ".pyc"]
    assert {path: (repo.path / path).read_bytes() for path in kept} == before
