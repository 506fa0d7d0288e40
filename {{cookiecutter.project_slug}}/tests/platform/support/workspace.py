"""A copy of this repo to train and serve in: scripts run as users run them, and this repo stays unchanged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.offline import project
from tools.feature_store import MATERIALIZE

THIS_REPO = Path(__file__).resolve().parents[3]
_FOLDERS = ("client", "config", "model", "src", "tools")
_TIMEOUT_S = 300
GIT_KEEPS = ("model.lock", "model.lineage.json")
"""What git has of a trained version."""


@dataclass(frozen=True)
class Workspace:
    """Run scripts in a copy of this repo."""

    root: Path

    @classmethod
    def copy_of_this_repo(cls, root: Path) -> Workspace:
        """Copy the code without files that commands created."""
        ignore = shutil.ignore_patterns("__pycache__", ".*")
        for name in _FOLDERS:
            shutil.copytree(THIS_REPO / name, root / name, ignore=ignore)
        return cls(root)

    @property
    def has_feature_store(self) -> bool:
        return bool(MATERIALIZE)

    def run(self, module: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a module to its end, whatever its exit code."""
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.root,
            env=environment(self.root, **variables),
            check=False,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )

    def printed(self, module: str, *arguments: str) -> str:
        """Run a module that must succeed; return what it printed."""
        done = self.run(module, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refusal(self, module: str, *arguments: str) -> str:
        """Run a module that must fail; return its last line."""
        done = self.run(module, *arguments)
        assert done.returncode == 1, done.stdout
        (sentence,) = done.stderr.splitlines()
        assert sentence.startswith("error: ")
        return sentence

    def train(self) -> None:
        self.printed("serving.offline.train")

    def materialize(self) -> None:
        if self.has_feature_store:
            self.printed("serving.offline.materialize")

    def fetch(self) -> None:
        self.printed("serving.offline.model_version", "fetch")


def keep_below(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make scripts in this process write below a folder."""
    for name, path in (("REGISTRY", "registry"), ("LOCK", "model.lock"), ("ARTIFACTS", "artifacts")):
        monkeypatch.setattr(project, name, root / path)


def environment(root: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a process that imports the code below `root`, with these settings and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SERVING_", "MODEL_", "OTEL_"))}
    path = os.pathsep.join(str(root / folder) for folder in ("src", "client", "."))
    return kept | {"PYTHONPATH": path} | variables
