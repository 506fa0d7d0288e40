"""What the tests share: a clean copy of the template, and repos generated from it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Answers, Repo, copy_of_template, generate

CONTAINERS = "containers"
LONGEST = (CONTAINERS, "test_generated_readme.py")
# Their tests share nothing that is slow to make.
APART = ("test_answer_properties.py", "test_choices.py", "test_updates.py")


def pytest_configure() -> None:
    """`make test ARGS=...` hands its own words down to every make that a test starts."""
    for name in ("ARGS", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL"):
        os.environ.pop(name, None)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep on one worker what shares a repo or the container engine, and begin with what takes longest."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    items.sort(key=lambda item: LONGEST.index(group_of(item)) if group_of(item) in LONGEST else len(LONGEST))


def group_of(item: pytest.Item) -> str:
    if CONTAINERS in item.path.parts:
        return CONTAINERS
    return item.nodeid if item.path.name in APART else item.path.name


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a clone has it: no caches, nothing that git ignores."""
    return copy_of_template(tmp_path_factory.mktemp("template") / "ml-serving-template")


@pytest.fixture(scope="session")
def generated(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Repo]:
    """Give the repo for these answers; a session generates each only once, so don't write into it."""
    repos: dict[Answers, Repo] = {}

    def give(**answers: str) -> Repo:
        key = tuple(sorted(answers.items()))
        if key not in repos:
            repos[key] = generate(template, tmp_path_factory.mktemp("repos"), answers)
        return repos[key]

    return give


@pytest.fixture(scope="session")
def default_repo(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """The repo of the default answers, with its environment, to work in."""
    repo = generate(template, tmp_path_factory.mktemp("default"), {})
    repo.passes("setup")
    return repo
