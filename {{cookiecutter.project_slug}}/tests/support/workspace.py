"""A copy of this repo to train and serve in: the scripts run as their users run them, and nothing here is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

THIS_REPO = Path(__file__).resolve().parents[2]
_FOLDERS = ("client", "config", "model", "scripts", "src")
_TIMEOUT_S = 300


@dataclass(frozen=True)
class Workspace:
    """Run scripts in a copy of this repo."""

    root: Path

    @classmethod
    def copy_of_this_repo(cls, root: Path) -> Workspace:
        """Copy the code, and nothing that a verb has made."""
        ignore = shutil.ignore_patterns("__pycache__", ".*")
        for name in _FOLDERS:
            shutil.copytree(THIS_REPO / name, root / name, ignore=ignore)
        return cls(root)

    @property
    def has_feature_store(self) -> bool:
        return (self.root / "scripts" / "materialize.py").exists()

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

    def train(self) -> None:
        self._succeed("scripts.train")

    def materialize(self) -> None:
        if self.has_feature_store:
            self._succeed("scripts.materialize")

    def fetch(self) -> None:
        self._succeed("scripts.model_version", "fetch")

    def _succeed(self, module: str, *arguments: str) -> None:
        done = self.run(module, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def environment(root: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a process that imports the code below `root`, with these settings and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SERVING_", "MODEL_"))}
    path = os.pathsep.join(str(root / folder) for folder in ("src", "client", "."))
    return kept | {"PYTHONPATH": path} | variables
