# ruff: noqa: S608 - names in the SQL come from declared features, which `Feature` checks; values are bound
"""The embedded feature store: one SQLite file, one row per entity.

The file is immutable: a write creates a new file and renames it over the old one. A reader sees all of a write or
nothing, waits for no lock, and can use a read-only mount.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from serving.adapters.feature_store.writer_lock import only_writer
from serving.domain.errors import FeaturesNotFilled, FeaturesOutdated, FeatureStoreUnavailable, SettingsError, quoted
from serving.domain.features import Feature, FeatureSet
from serving.domain.ports import Column, FeatureRows
from serving.domain.tensors import Datatype, Tensor

_TABLE = "static_features"
_FORMS = "declared_forms"
_WATERMARK = "watermark"
_UNDATED = 0
_WRITER_TIMEOUT_S = 30.0
_STEPS_BETWEEN_CHECKS = 10_000
_MAX_VARIABLES = 30_000  # in one statement; SQLite's default limit is 32,766
_UNREADABLE = "the feature store can't be read; fill it with `make features`."


class SqliteStore:
    """Read and write static features in a SQLite file.

    Reads run on the event loop: they take about 20 microseconds, and a separate thread, which competes for the
    interpreter lock, more than halved the throughput. So the file must be on a local disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._opened = (0, 0)
        self._forms: Mapping[str, str] = {}
        self._filled = False

    @classmethod
    def open(cls, url: str) -> SqliteStore:
        """Open `sqlite:<path>`; the first read or write opens the file."""
        path = url.removeprefix("sqlite:")
        if not path:
            raise SettingsError(f"feature store {quoted(url)} names no file; write sqlite:data/features.db.")
        return cls(Path(path))

    def supplies(self, features: FeatureSet) -> tuple[Feature, ...]:
        """Return all static features."""
        return features.static

    async def read(
        self, entities: Sequence[bytes], features: Sequence[Feature], *, timeout: float
    ) -> Mapping[str, Column]:
        """Read features for each entity; an unknown entity is not present."""
        deadline = time.monotonic() + timeout
        try:
            connection = self._reader()
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_CHECKS)
            self._check_forms(features)
            rows = _select(connection, entities, features) if self._forms else {}
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline:
                raise FeatureStoreUnavailable(f"the feature store did not answer within {timeout:.3f} s.") from None
            raise FeatureStoreUnavailable(_UNREADABLE) from error
        except FileNotFoundError:
            raise FeaturesNotFilled from None
        except (sqlite3.Error, OSError) as error:
            raise FeatureStoreUnavailable(_UNREADABLE) from error
        if not rows and not self._filled:
            raise FeaturesNotFilled
        nothing = (None, None) * len(features)
        found = [rows.get(entity, nothing) for entity in entities]
        return {
            feature.name: Column.of_cells(
                feature,
                [_value(feature, row[2 * index]) for row in found],
                [row[2 * index + 1] or _UNDATED for row in found],
            )
            for index, feature in enumerate(features)
        }

    async def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def write(self, rows: FeatureRows, *, replace: bool = False) -> None:
        """Insert or replace one row per entity, all or none; with `replace`, remove every other entity."""
        dates = rows.dates()
        cells = chain.from_iterable((_cells(feature, rows.columns[feature.name]), dates) for feature in rows.features)
        records = zip(rows.entities, *cells, strict=True)
        try:
            with self._next_file(keep=not replace) as connection, connection:
                _declare(connection, rows.features)
                if rows.watermark:
                    connection.execute(f"DELETE FROM {_WATERMARK}")
                    connection.execute(f"INSERT INTO {_WATERMARK} VALUES (?)", [rows.watermark])
                _upsert(connection, rows.features, records)
        except (sqlite3.Error, OSError) as error:
            raise FeatureStoreUnavailable(f"the feature store {self._path} can't be written ({error}).") from error

    def delete(self, entities: Sequence[bytes]) -> int:
        """Delete the rows of these entities."""
        if not self._path.exists():
            return 0
        try:
            with self._next_file() as connection, connection:
                if not _has_table(connection, _TABLE):
                    return 0
                keys = [(entity,) for entity in entities]
                return connection.executemany(f"DELETE FROM {_TABLE} WHERE entity = ?", keys).rowcount
        except (sqlite3.Error, OSError) as error:
            raise FeatureStoreUnavailable(f"the feature store {self._path} can't be written ({error}).") from error

    def watermark(self) -> str:
        """Return the watermark of the last write that had one."""
        if not self._path.exists():
            return ""
        try:
            with closing(sqlite3.connect(self._path)) as connection:
                if not _has_table(connection, _WATERMARK):
                    return ""
                return "".join(text for (text,) in connection.execute(f"SELECT text FROM {_WATERMARK}"))
        except sqlite3.Error as error:
            raise FeatureStoreUnavailable(f"the feature store {self._path} can't be read ({error}).") from error

    def _check_forms(self, features: Sequence[Feature]) -> None:
        for feature in features:
            stored = self._forms.get(feature.name, feature.form)
            if stored != feature.form:
                raise FeaturesOutdated.of(feature.name, stored, feature.form)

    @contextmanager
    def _next_file(self, *, keep: bool = True) -> Iterator[sqlite3.Connection]:
        """Yield a copy of the present file for writing, or an empty one, and replace the present one at the end."""
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / f".{self._path.name}.next"
        with only_writer(self._path, timeout=_WRITER_TIMEOUT_S):
            staged.unlink(missing_ok=True)  # left by a writer that was killed
            try:
                with closing(sqlite3.connect(staged)) as connection:
                    connection.execute("PRAGMA journal_mode = MEMORY")  # leaves no second file
                    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
                    if keep and self._path.exists():
                        with closing(sqlite3.connect(self._path)) as present:
                            present.backup(connection)
                    yield connection
                staged.replace(self._path)
            finally:
                staged.unlink(missing_ok=True)

    def _reader(self) -> sqlite3.Connection:
        """Return a connection to the present file."""
        stat = self._path.stat()
        identity = (stat.st_ino, stat.st_mtime_ns)
        if self._connection is None or identity != self._opened:
            if self._connection is not None:
                self._connection.close()
            self._connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?immutable=1", uri=True)
            self._forms, self._filled = {}, False
            if _has_table(self._connection, _FORMS):
                self._forms = dict(self._connection.execute(f"SELECT name, form FROM {_FORMS}").fetchall())
                self._filled = bool(self._connection.execute(f"SELECT 1 FROM {_WATERMARK}").fetchone())
            self._opened = identity
        return self._connection


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [name]).fetchone())


def _declare(connection: sqlite3.Connection, features: Sequence[Feature]) -> None:
    """Create missing tables and columns; drop values whose declared form has changed."""
    connection.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} (entity BLOB PRIMARY KEY) WITHOUT ROWID")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {_FORMS} (name TEXT PRIMARY KEY, form TEXT)")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {_WATERMARK} (text TEXT)")
    present = {row[1] for row in connection.execute(f"PRAGMA table_info({_TABLE})")}
    forms = dict(connection.execute(f"SELECT name, form FROM {_FORMS}").fetchall())
    for feature in features:
        for name in _names(feature):
            if name not in present:
                connection.execute(f'ALTER TABLE {_TABLE} ADD COLUMN "{name}"')
        if forms.get(feature.name, feature.form) != feature.form:
            connection.execute(f'UPDATE {_TABLE} SET "{feature.name}" = NULL')
        connection.execute(f"INSERT OR REPLACE INTO {_FORMS} VALUES (?, ?)", [feature.name, feature.form])


def _upsert(connection: sqlite3.Connection, features: Sequence[Feature], rows: Iterable[tuple[Any, ...]]) -> None:
    names = ["entity", *chain.from_iterable(map(_names, features))]
    updates = ", ".join(f'"{name}" = excluded."{name}"' for name in names[1:])
    connection.executemany(
        f"INSERT INTO {_TABLE} ({_quoted(names)}) VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT (entity) DO UPDATE SET {updates}",
        rows,
    )


def _select(
    connection: sqlite3.Connection, entities: Sequence[bytes], features: Sequence[Feature]
) -> dict[bytes, tuple[Any, ...]]:
    """Return a value and its time per feature, by entity."""
    # Qualified names: SQLite reads a quoted name that is no column as a text.
    names = ["entity", *chain.from_iterable(map(_names, features))]
    columns = ", ".join(f'{_TABLE}."{name}"' for name in names)
    keys = list(dict.fromkeys(entities))
    found = {}
    for start in range(0, len(keys), _MAX_VARIABLES):
        part = keys[start : start + _MAX_VARIABLES]
        rows = connection.execute(
            f"SELECT {columns} FROM {_TABLE} WHERE entity IN ({', '.join('?' * len(part))})", part
        )
        found.update({row[0]: row[1:] for row in rows})
    return found


def _names(feature: Feature) -> tuple[str, str]:
    """Return the names of a feature's columns: value and time."""
    return feature.name, f"{feature.name}@time"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _cells(feature: Feature, tensor: Tensor) -> list[Any]:
    """Return one SQLite value per row: numbers as numbers, for readable queries, others as bytes."""
    if _packed(feature):
        return [row.astype(feature.datatype.dtype).tobytes() for row in tensor]
    return list(tensor.tolist())


def _value(feature: Feature, cell: Any) -> Any:
    if cell is None or not _packed(feature):
        return cell
    return np.frombuffer(cell, feature.datatype.dtype).reshape(feature.shape)


def _packed(feature: Feature) -> bool:
    """Return whether values are stored as bytes: arrays, and unsigned 64-bit integers, which SQLite lacks."""
    return bool(feature.shape) or feature.datatype is Datatype.UINT64
