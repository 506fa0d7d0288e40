"""One command at a time changes the containers of this clone."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from serving.domain.errors import OperatorError


@contextmanager
def only_change(history: Path, command: str) -> Iterator[None]:
    """Hold the lock beside the history of deployments.

    This is SQLite's lock on an empty file, as it works on every system. The system releases it if the process is
    killed, and no child inherits it.

    :raises OperatorError: another command holds it; the sentence says which
    """
    path, holder = (history.with_name(f".{history.name}.{kind}") for kind in ("lock", "holder"))
    try:
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            _describe(holder, command)
            try:
                yield
            finally:
                holder.unlink(missing_ok=True)
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise OperatorError(
                f"another command changes the containers of this repo{_described(holder)}; wait until it has ended."
            ) from None
        raise OperatorError(f"{path}: can't be locked ({error}); check the rights of its folder.") from None


def _describe(holder: Path, command: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder.write_text(json.dumps({"command": command, "process": os.getpid(), "since": since}), encoding="utf-8")


def _described(holder: Path) -> str:
    """Return who holds the lock, for a sentence; empty in the moment before it is written."""
    try:
        said = json.loads(holder.read_bytes())
        return f": `make {said['command']}` since {said['since']}, process {said['process']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
