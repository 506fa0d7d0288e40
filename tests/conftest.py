"""What the tests share: a clean copy of the template, and repos generated from it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Answers, Repo, copy_of_template, generate


@pytest.fixture(scope="session", autouse=True)
def no_make_around() -> None:
    """`make test ARGS=...` hands its own words down to every make that a test starts."""
    for name in ("ARGS", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL"):
        os.environ.pop(name, None)


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
