"""A virtual environment, made by uv from hashed locks.

Needs the standard library only. This file is the same in the template and in every repo that it generates. In a
Dockerfile it is a program: `python -m tools.environment FOLDER SLOT...` installs requirements/SLOT.txt.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import uv
from tools.process import SetupError, quietly


@dataclass(frozen=True)
class Environment:
    """The environment in `folder`; the folders in `importable` are on its import path."""

    folder: Path
    importable: tuple[Path, ...] = ()

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return uv.inside(self.folder, "scripts") / ("python.exe" if os.name == "nt" else "python")

    def ensure(self, locks: Sequence[Path]) -> Path:
        """Install these locks, if they are not installed yet; return the interpreter.

        Locks installed before stay installed. Pins in `overrides/` beside a lock replace those of all locks.

        :raises SetupError: the environment can't be made, or a package can't be installed
        """
        installed = self._installed()
        if _digests(self._named(locks)).items() <= installed.items():
            return self.python
        earlier = [self.folder.parent / name for name in installed if "overrides" not in Path(name).parts]
        files = self._named([*locks, *(lock for lock in earlier if lock.exists())])
        if not installed:
            self._create()
        self._install(files)
        self._stamps.write_text(json.dumps(_digests(files)), encoding="utf-8")
        return self.python

    @property
    def _stamps(self) -> Path:
        # Stored in site-packages: per interpreter, deleted with the packages.
        return uv.inside(self.folder, "purelib") / "locks.json"

    def _installed(self) -> dict[str, str]:
        """Return the digest of each installed lock; empty if the environment is incomplete."""
        if not self.python.exists() or not self._stamps.exists():
            return {}
        return dict(json.loads(self._stamps.read_text(encoding="utf-8")))

    def _named(self, locks: Sequence[Path]) -> dict[str, Path]:
        """Return locks and overrides by paths relative to this environment, so that a repo can be moved."""
        overrides = sorted({path for lock in locks for path in lock.parent.glob("overrides/*.txt")})
        return {os.path.relpath(path, self.folder.parent): path for path in [*locks, *overrides]}

    def _create(self) -> None:
        print(
            f"making {self.folder.name} with Python {sys.version_info.major}.{sys.version_info.minor} ...", flush=True
        )
        command = [
            uv.find(),
            "venv",
            "--quiet",
            "--no-project",
            "--clear",
            "--python",
            uv.base_python(),
            str(self.folder),
        ]
        quietly(command, f"can't create a virtual environment in {self.folder}", uv.settings())
        packages = uv.inside(self.folder, "purelib")
        # Relative, so that a moved repo never imports from its old folder.
        lines = [f"{os.path.relpath(folder, packages)}\n" for folder in self.importable]
        (packages / "repo.pth").write_text("".join(lines), encoding="utf-8")

    def _install(self, files: Mapping[str, Path]) -> None:
        names = ", ".join(f"{path.parent.name}/{path.name}" for path in files.values())
        print(f"installing {names} ...", flush=True)
        # The locks are complete: nothing to resolve.
        options = ["--python", str(self.python), "--exact", "--no-deps", "--require-hashes"]
        for path in files.values():
            options += ["--overrides" if path.parent.name == "overrides" else "--requirements", str(path)]
        quietly(
            [uv.find(), "pip", "install", *options],
            f"{names} can't be installed, for the reason above; solve that, then run the same command again",
            uv.settings(),
        )


def _digests(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: _digest(path) for name, path in files.items()}


def _digest(lock: Path) -> str:
    try:
        return hashlib.sha256(lock.read_bytes()).hexdigest()
    except OSError:
        raise SetupError(f"error: {lock} is missing; restore it, or make it with `make lock`.") from None


def main(folder: str, *slots: str) -> None:
    """Install the locks of these slots; skip slots without a lock."""
    locks = [uv.LOCK.parent / f"{slot}.txt" for slot in slots]
    try:
        Environment(Path(folder)).ensure([lock for lock in locks if lock.exists()])
    except SetupError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
