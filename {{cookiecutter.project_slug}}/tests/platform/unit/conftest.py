from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from serving.offline import project
from tests.platform.support.docker_program import Docker


@pytest.fixture
def docker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """Return a function that replaces Docker by a Python program."""
    monkeypatch.setattr(project, "ROOT", folder)
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "tiny-abc123")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def put(program: str) -> None:
        script = folder / "docker"
        script.write_text(f"#!{sys.executable}\n{program}\n", encoding="utf-8")
        script.chmod(0o755)

    return put
