"""`make demo` ends with a prediction in every state of a repo, and changes only build/demo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from serving.domain.features import Entity
from serving.domain.references import read_lock, write_lock
from serving.offline import project, user_model
from tests.platform.support.workspace import Workspace, keep_below
from tools import demo


def files(root: Path) -> Mapping[Path, bytes]:
    """Return all files of a repo that a demo must leave as they are."""
    found = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path: path.read_bytes() for path in found if root / "build" / "demo" not in path.parents}


def test_the_demo_of_a_repo_serves_its_pinned_version(trained: Workspace) -> None:
    before = files(trained.root)
    message = trained.printed("tools.demo")
    assert f"answered by {read_lock(trained.root / 'model.lock').model} version 1, sha256=" in message
    assert "training on" not in message
    assert files(trained.root) == before


def without_version(root: Path) -> None:
    """Leave the clone as it is."""


def without_pin(root: Path) -> None:
    """Make the clone a repo as it is generated."""
    (root / "model.lineage.json").unlink()
    (root / "model.lock").write_text("MODEL_VERSION=\n", encoding="utf-8")


@pytest.mark.parametrize("state", [without_version, without_pin])
def test_the_demo_trains_its_own_version_if_there_is_none(clone: Workspace, state: Callable[[Path], None]) -> None:
    state(clone.root)
    before = files(clone.root)
    message = clone.printed("tools.demo")
    assert ("`make rebuild` trains it from this checkout." in message) == (state is without_version)
    assert "registered local:" in message
    assert "answered by" in message
    assert files(clone.root) == before


def test_the_demo_does_not_serve_a_pinned_version_with_other_features(
    trained: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_below(trained.root, monkeypatch)
    assert demo.pinned() is not None
    another = replace(user_model.features(), entity=Entity("another_key"))
    monkeypatch.setattr(user_model, "features", lambda: another)
    assert demo.pinned() is None
    assert "model/features.py has changed since" in capsys.readouterr().out


def test_a_demo_without_its_registry_says_so_and_continues(
    clone: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_below(clone.root, monkeypatch)
    write_lock(project.LOCK, replace(read_lock(project.LOCK), scheme="nowhere"))
    assert demo.pinned() is None
    assert "model registry 'nowhere' is not part of this repo" in capsys.readouterr().out
