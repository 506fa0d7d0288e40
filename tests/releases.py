"""Releases of the template in a git repo, and cruft, which creates and updates repos from them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import files_below, run

# No test depends on the user or on their git configuration.
IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Somebody"), ("EMAIL", "somebody@example.org"))
} | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def surroundings(place: Path) -> dict[str, str]:
    """Return an environment with its home and temporary folders in `place`, and create them."""
    home, temporary = place / "home", place / "temporary"
    home.mkdir(parents=True, exist_ok=True)
    temporary.mkdir(exist_ok=True)
    own = {"HOME": home, "USERPROFILE": home, "TMPDIR": temporary, "TEMP": temporary, "TMP": temporary}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COOKIECUTTER", "GIT_"))}
    return inherited | IDENTITY | {name: str(path) for name, path in own.items()}


def git(folder: Path, *words: str) -> str:
    """Run git in a folder, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | IDENTITY
    command = ["git", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True, encoding="utf-8"
    )
    return done.stdout


def commit(folder: Path, message: str) -> None:
    """Commit everything in a folder; make it a repo first if needed."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)


def release(repo: Path, tree: Path, tag: str) -> None:
    """Make a tree the next release of the template that `repo` holds; the first makes the repo."""
    repo.mkdir(exist_ok=True)
    for path in repo.iterdir():
        if path.is_dir() and path.name != ".git":
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    shutil.copytree(tree, repo, dirs_exist_ok=True)
    commit(repo, tag)
    git(repo, "tag", tag)


def cruft(place: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the cruft command with home and temporary folders in `place`."""
    # -P: as for the installed command, the working folder is not where Python looks for modules.
    command = [sys.executable, "-P", "-m", "cruft", *words]
    return run(command, cwd=cwd or place, environment=surroundings(place))


def contents(repo: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a repo, without git's own."""
    paths = [path for path in files_below(repo) if path.parts[0] != ".git"]
    return {path.as_posix(): (repo / path).read_bytes() for path in paths}


def differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> set[str]:
    """Return the paths that are in only one, or differ."""
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}
