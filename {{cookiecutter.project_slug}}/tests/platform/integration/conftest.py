"""What the tests of batch scoring share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.platform.support.artifacts import tiny
from tests.platform.support.fakes import FakeStore
from tests.platform.support.scoring import Job, lay_out, numbers, write


@pytest.fixture
def store() -> FakeStore:
    return FakeStore({b"a": {"base": 1.0}, b"b": {"base": 2.0}})


@pytest.fixture
def job(folder: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Return a job for the model with a static feature."""
    return lay_out(folder, tiny(static=True), monkeypatch, store)


@pytest.fixture
def given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Return a job for the model whose features are all given, and its input of 100 rows."""
    made = lay_out(folder, tiny(), monkeypatch)
    write(folder / "in.parquet", numbers(100))
    return made
