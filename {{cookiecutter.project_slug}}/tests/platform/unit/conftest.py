from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from serving.offline import project
from tests.platform.support.containers import Containers
from tests.platform.support.docker_program import Docker
from tools import gateway, replicas


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


@pytest.fixture
def containers(monkeypatch: pytest.MonkeyPatch) -> Containers:
    """Replace the server's containers by a list."""
    fake = Containers()
    monkeypatch.setattr(replicas, "every", lambda: list(fake.there))
    monkeypatch.setattr(replicas, "running", lambda: list(fake.there))
    monkeypatch.setattr(replicas, "remove", fake.remove)
    monkeypatch.setattr(replicas, "await_health", fake.await_health)
    monkeypatch.setattr(gateway, "find", lambda: None)
    return fake
