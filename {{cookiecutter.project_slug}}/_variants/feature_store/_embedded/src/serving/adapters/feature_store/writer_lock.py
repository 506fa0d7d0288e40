"""One writer of a file at a time, among all processes of a machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def only_writer(path: Path, *, timeout: float) -> Iterator[None]:
    """Keep other writers of this file waiting as long as the block lasts.

    It is SQLite's own lock on a file beside this one, which the system drops if we crash.

    :raises sqlite3.OperationalError: another writer did not end within `timeout` seconds
    """
    lock = sqlite3.connect(path.with_name(f".{path.name}.lock"), timeout=timeout, isolation_level=None)
    with closing(lock):
        lock.execute("BEGIN EXCLUSIVE")
        yield
