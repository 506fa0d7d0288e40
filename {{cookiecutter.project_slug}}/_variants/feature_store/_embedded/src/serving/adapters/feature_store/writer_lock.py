"""A lock between processes: one writer of a file at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def only_writer(path: Path, *, timeout: float) -> Iterator[None]:
    """Hold the write lock of a file.

    This is SQLite's lock on a second file; the system releases it if the process crashes.

    :raises sqlite3.OperationalError: another writer held it for `timeout` seconds
    """
    lock = sqlite3.connect(path.with_name(f".{path.name}.lock"), timeout=timeout, isolation_level=None)
    with closing(lock):
        lock.execute("BEGIN EXCLUSIVE")
        yield
