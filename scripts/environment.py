"""The virtual environment in `.venv`: made when it is missing, filled from hashed locks, made anew when a lock changes.

Needs the standard library only. This file is the same in the template and in every repo that it generates.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

INTERRUPTED = 130
_TAIL_LINES = 8
# They lead Python away from the environment, whatever is installed in it.
_MISLEADING = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


class SetupError(Exception):
    """The environment can't be made; the text is one sentence, after the failed tool's own last words."""


@dataclass(frozen=True)
class Environment:
    """The environment of the repo at `root`; the folders in `importable` are on its import path."""

    root: Path
    importable: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the environment is."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self._path("scripts") / ("python.exe" if os.name == "nt" else "python")

    def ensure(self, locks: Sequence[Path]) -> Path:
        """Make sure that everything these lock files name is installed; return the interpreter.

        :raises SetupError: it can't be made, or a package can't be installed
        """
        wanted = {lock.stem: _digest(lock) for lock in locks}
        installed = self._installed()
        if any(installed.get(name, digest) != digest for name, digest in wanted.items()):
            print("a lock has changed since .venv was made")
            installed = {}
        if not installed:
            self._create()
        missing = [lock for lock in locks if lock.stem not in installed]
        if missing:
            self._install(missing)
            self._stamps.write_text(json.dumps(installed | wanted), encoding="utf-8")
        return self.python

    @property
    def _stamps(self) -> Path:
        # Among the packages, so that it goes when they go, and is looked for in vain by another Python.
        return self._path("purelib") / "locks.json"

    def _path(self, kind: str) -> Path:
        return Path(sysconfig.get_path(kind, "venv", {"base": str(self.folder), "platbase": str(self.folder)}))

    def _installed(self) -> dict[str, str]:
        """Return what is whole: the digest of each installed lock, or nothing."""
        if not self.python.exists() or not self._stamps.exists():
            return {}
        return dict(json.loads(self._stamps.read_text(encoding="utf-8")))

    def _create(self) -> None:
        print(f"making .venv with Python {sys.version_info.major}.{sys.version_info.minor} ...", flush=True)
        # The base interpreter: this one may be the environment that is to be replaced.
        base = getattr(sys, "_base_executable", sys.executable)
        quietly(
            [base, "-m", "venv", "--clear", str(self.folder)],
            "no virtual environment can be made; on Debian and Ubuntu that needs the package python3-venv",
        )
        packages = self._path("purelib")
        # Relative, so that a moved repo never imports from where it was.
        lines = [f"{os.path.relpath(self.root / folder, packages)}\n" for folder in self.importable]
        (packages / "repo.pth").write_text("".join(lines), encoding="utf-8")

    def _install(self, locks: Sequence[Path]) -> None:
        names = ", ".join(f"{lock.parent.name}/{lock.name}" for lock in locks)
        print(f"installing {names} (some minutes, if nothing is cached) ...", flush=True)
        files = [word for lock in locks for word in ("--requirement", str(lock))]
        # The locks are complete, so pip need not resolve; and it would compile on one core, tests of packages included.
        options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps", "--no-compile"]
        quietly(
            [str(self.python), "-m", "pip", "install", *options, *files],
            f"{names} can't be installed, for the reason above; when that is gone, the same command goes on",
        )
        # Some packages hold files that no compiler takes, hence no look at the outcome.
        compiling = [str(self.python), "-m", "compileall", "-q", "-q", "-j", "0", "-x", r"[\\/]tests?[\\/]"]
        subprocess.run([*compiling, str(self._path("purelib"))], check=False, capture_output=True, env=_environment())


def run(command: Sequence[str], folder: Path) -> int:
    """Run a command in `folder` to its end and return its exit code; whoever stops this process, stops it too."""
    process = subprocess.Popen(command, cwd=folder, env=_environment())
    previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    interrupted = False
    try:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:  # the command has got it from the terminal as well, and may need time to end
                interrupted = True
    finally:
        signal.signal(signal.SIGTERM, previous)
    if interrupted:
        return INTERRUPTED
    return code if code >= 0 else 128 - code


def quietly(command: Sequence[str], failure: str) -> None:
    """Run a command that says something only if it fails: then the end of its own words, and ours."""
    done = subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="backslashreplace",
        env=_environment(),
    )
    if done.returncode:
        last_words = "\n".join(line for line in done.stdout.splitlines()[-_TAIL_LINES:])
        raise SetupError(f"{last_words}\nerror: {failure}.")


def _digest(lock: Path) -> str:
    try:
        return hashlib.sha256(lock.read_bytes()).hexdigest()
    except OSError:
        raise SetupError(f"error: {lock} is missing; restore it, or make it with `make lock`.") from None


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _MISLEADING}
