"""Fetch the pinned model version, then serve it in the foreground: `make run`."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from serving.domain.errors import UnresolvedReference
from serving.domain.references import Reference
from serving.offline import project
from serving.offline.bootstrap import fetch, open_registry
from serving.online.settings import Settings, load_settings


def main() -> NoReturn:
    """Replace this process with the server, so that signals reach it."""
    settings = load_settings()
    reference = wanted(settings)
    fetch(reference, open_registry(reference.scheme, project.REGISTRY), settings.artifacts)
    os.environ["MODEL_VERSION"] = str(reference)
    command = [sys.executable, "-m", "serving"]
    os.execv(sys.executable, command)  # noqa: S606 - a fixed list of words


def wanted(settings: Settings) -> Reference:
    """Return the pinned reference to serve; the registry resolves an unpinned one.

    :raises UnresolvedReference: it is unpinned, and that is not allowed; the text has the line to write
    """
    text = settings.model_version
    if ":" not in text or Reference.parse(text).pinned:
        return settings.reference()
    reference = Reference.parse(text)
    found = open_registry(reference.scheme, project.REGISTRY).resolve(reference)
    if not settings.allow_unpinned:
        raise UnresolvedReference(
            f"MODEL_VERSION={text} is not pinned; write MODEL_VERSION='{found}', "
            "or, for development only, set SERVING_ALLOW_UNPINNED=true."
        )
    print(f"warning: {text} is not pinned; serving what it means now: {found}", file=sys.stderr)
    return found


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
