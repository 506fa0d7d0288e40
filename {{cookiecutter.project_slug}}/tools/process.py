"""Run commands: in the foreground, or silently with the end of their output where they fail.

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
# They lead Python away from the environment, whatever is installed in it.
_MISLEADING = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


class SetupError(Exception):
    """A tool failed; the text is its last words and one sentence of ours."""


def run(command: Sequence[str], folder: Path) -> int:
    """Run a command in `folder` to its end and return its exit code; whoever stops this process, stops it too."""
    process = subprocess.Popen(command, cwd=folder, env=clean(os.environ))
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


def quietly(command: Sequence[str], failure: str, environment: Mapping[str, str] = os.environ) -> None:
    """Run silently, with the command's own progress on a terminal; on failure show the end of its output and a hint."""
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
    """Return variables without those that lead Python away from an environment."""
    return {name: value for name, value in given.items() if name not in _MISLEADING}
