"""Open a foreign model in another process, and read its one answer.

Files that hold no code are opened in a process of this user, without its secrets and with a separate environment
(`requirements/import.txt`). A program, such as a pickle, is opened in a container (`sandbox.py`). Without an engine it
is opened only if the caller trusts it: then it can do whatever this user can.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from serving.domain.errors import OperatorError, quoted
from serving.offline import project, sandbox, sources

_ENVIRONMENT = project.ROOT / "build" / "import" / ".venv"
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from serving.offline.unpickle import main; main(sys.argv[1:])"
)
_TIMEOUT_S = 300.0
_ROWS = "rows.csv"
_INSIDE = PurePosixPath("/given")


@dataclass(frozen=True)
class Given:
    """Hold a source, rows for it, the other arguments of `unpickle`, and whether programs are trusted."""

    source: Path
    rows: Path
    words: tuple[str, ...]
    trusted: bool


def opened(given: Given) -> dict[str, Any]:
    """Return the document of `unpickle`.

    :raises OperatorError: the model can't be opened, or is a program that may not be run
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "given")
        source = _copied(given, folder)
        print(f"opening {given.source} in a separate process ...")
        document = _here(given, folder, source, sources.DATA)
        if "program" not in document:
            return document
        if given.trusted:
            return _here(given, folder, source, sources.PROGRAMS)
        if not sandbox.available():
            raise OperatorError(
                f"{given.source}: {document['program']}, which can run its author's code. Start Docker, and it is "
                "opened in a container; or, if you trust its author, add --trusted: it then has your rights."
            )
        print(f"{given.source} can run code; opening it in a container ...")
        words = [str(_INSIDE / source), str(_INSIDE / _ROWS), sources.PROGRAMS, *given.words]
        try:
            return _document(sandbox.run(folder, words, timeout=_TIMEOUT_S))
        except OperatorError as error:
            raise OperatorError(f"{given.source}: {error}") from error


def interpreter() -> Path:
    """Return the interpreter of the environment that opens models.

    :raises OperatorError: the environment was not made
    """
    python = _ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        raise OperatorError(f'{_ENVIRONMENT}: is missing; `make versions ARGS="import ..."` makes it.')
    return python


def _copied(given: Given, folder: Path) -> PurePosixPath:
    """Copy source and rows into a new folder, readable for every user; return where the source is in it."""
    source = given.source.resolve()
    in_folder = source.name in (sources.MLMODEL, sources.SETTINGS)
    copied = source.parent if in_folder else source
    folder.mkdir()
    try:
        shutil.copyfile(given.rows, folder / _ROWS)
        (folder / "source").mkdir()
        target = folder / "source" / copied.name
        if copied.is_dir():
            shutil.copytree(copied, target, symlinks=True, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(copied, target)
    except (OSError, shutil.Error) as error:
        raise OperatorError(f"{given.source}: can't be copied ({quoted(error, 200)}).") from None
    for copy in (folder, *folder.rglob("*")):
        if not copy.is_symlink():
            copy.chmod(0o755 if copy.is_dir() else 0o644)
    return PurePosixPath("source", copied.name, *([source.name] if in_folder else []))


def _here(given: Given, folder: Path, source: PurePosixPath, kinds: str) -> dict[str, Any]:
    """Run `unpickle` as this user."""
    command = [str(interpreter()), "-I", "-c", _PROGRAM, str(project.ROOT / "src")]
    command += [str(folder / source), str(folder / _ROWS), kinds, *given.words]
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=kept | {"HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise OperatorError(f"{given.source}: was not opened and converted within {_TIMEOUT_S:g} s.") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        last = (said or [f"its process ended with code {done.returncode}"])[-1]
        raise OperatorError(f"{given.source}: can't be imported: {last}")
    return _document(done.stdout)


def _document(answer: bytes) -> dict[str, Any]:
    """Read an answer; it can be anything, if the model was a program."""
    try:
        document = json.loads(answer)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
