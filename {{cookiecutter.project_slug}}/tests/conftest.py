"""Shared by all tests: a clean environment, Hypothesis without deadlines, one trained example per run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before they are imported, so that pytest rewrites their assertions as in test modules.
pytest.register_assert_rewrite("tests.platform.contract", "tests.platform.support")

from tests.platform.support.server import ServerProcess  # noqa: E402
from tests.platform.support.workspace import GIT_KEEPS, Workspace  # noqa: E402

# No deadline: the machine is shared, and no test here asserts a duration.
settings.register_profile("repo", deadline=None, print_blob=True)
settings.load_profile("repo")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the user's own settings."""
    for name in os.environ:
        if name.startswith(("SERVING_", "MODEL_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Train this repo's own model once, and fill its feature store if it has one."""
    workspace = Workspace.copy_of_this_repo(tmp_path_factory.mktemp("example") / "repo")
    workspace.train()
    workspace.materialize()
    workspace.fetch()
    return workspace


@pytest.fixture(scope="session")
def example_server(example: Workspace) -> Iterator[ServerProcess]:
    """Serve the trained example in a separate process."""
    with ServerProcess(example.root) as server:
        server.wait_until_listening()
        yield server


@pytest.fixture
def trained(example: Workspace, tmp_path: Path) -> Workspace:
    """Return a trained repo that a test may break."""
    shutil.copytree(example.root, tmp_path / "repo", ignore=shutil.ignore_patterns("__pycache__"))
    return Workspace(tmp_path / "repo")


@pytest.fixture
def clone(example: Workspace, tmp_path: Path) -> Workspace:
    """Return a clone of the trained repo: only the files that git tracks."""
    made = Workspace.copy_of_this_repo(tmp_path / "clone")
    for name in GIT_KEEPS:
        shutil.copy(example.root / name, made.root / name)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder for an artifact, a lock and a store."""
    return tmp_path
