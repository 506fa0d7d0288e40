"""Fetch the pinned model version, then serve it in the foreground: `make run`."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from scripts import project
from scripts.registries import fetch
from serving.settings import load_settings


def main() -> NoReturn:
    """Replace this process by the server, so that signals reach it."""
    settings = load_settings()
    fetch(settings.reference(), project.REGISTRY, settings.artifacts)
    command = [sys.executable, "-m", "serving"]
    os.execv(sys.executable, command)  # noqa: S606 - a fixed list of words


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
