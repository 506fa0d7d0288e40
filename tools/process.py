"""Run commands: in the foreground, or silently with the end of their output on failure.

Needs the standard library only. This file is the same in the template and in every repo that it generates.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

INTERRUPTED = 130
_TAIL_LINES = 8
# With these set, Python ignores the environment.
_MISLEADING = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


class SetupError(Exception):
    """A tool failed; the text is the end of its output and a hint."""


def run(command: Sequence[str], folder: Path) -> int:
    """Run a command in `folder` and return its exit code; signals to this process end it too."""
    process = subprocess.Popen(command, cwd=folder, env=clean(os.environ))
    previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    interrupted = False
    try:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:  # the terminal sent it to the command too, which may need time to end
                interrupted = True
    finally:
        signal.signal(signal.SIGTERM, previous)
    if interrupted:
        return INTERRUPTED
    return code if code >= 0 else 128 - code


def quietly(command: Sequence[str], failure: str, environment: Mapping[str, str] = os.environ) -> None:
    """Run silently (in a terminal, with the command's progress); on failure show the end of its output and a hint."""
    watched = sys.stderr.isatty()
    done = subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=None if watched else subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="backslashreplace",
        env=clean(environment),
    )
    if done.returncode:
        last_words = "\n".join(line for line in done.stdout.splitlines()[-_TAIL_LINES:])
        raise SetupError(f"{last_words}\nerror: {failure}.")


def clean(given: Mapping[str, str]) -> dict[str, str]:
    """Return variables without those that make Python ignore an environment."""
    return {name: value for name, value in given.items() if name not in _MISLEADING}
