"""A FAKE of Neptune's client: the calls that this repo makes, on a dictionary in memory, with the client's own traps.

The template's tests run the same contract with the real client, against a stand-in of the server.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROJECT_KEY = "SRV"


class ModelNotFound(Exception):
    """There is no model with this id."""


class ModelVersionNotFound(Exception):
    """There is no version with this id."""


class NeptuneModelKeyAlreadyExistsError(Exception):
    """There is a model with this key."""


@dataclass
class Thing:
    """A project, a model or a version: values by path."""

    fields: dict[str, Any]
    versions: int = 0


@dataclass
class FakeNeptune:
    """Replace the module `neptune`; each instance is one server."""

    things: dict[str, Thing] = field(default_factory=lambda: {PROJECT_KEY: Thing({"sys/id": PROJECT_KEY})})
    lock: threading.RLock = field(default_factory=threading.RLock)
    exceptions: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(
            ModelNotFound=ModelNotFound,
            ModelVersionNotFound=ModelVersionNotFound,
            NeptuneModelKeyAlreadyExistsError=NeptuneModelKeyAlreadyExistsError,
        )
    )

    def init_project(self, *, project: str, api_token: str, mode: str) -> Opened:
        return Opened(self, PROJECT_KEY, mode)

    def init_model(
        self, *, project: str, api_token: str, mode: str, with_id: str = "", key: str = "", name: str = "Untitled"
    ) -> Opened:
        if with_id:
            return self._open(with_id, mode, name, ModelNotFound)
        return self._create(f"{PROJECT_KEY}-{key}", mode, name, {})

    def init_model_version(
        self, *, project: str, api_token: str, mode: str, with_id: str = "", model: str = "", name: str = "Untitled"
    ) -> Opened:
        if with_id:
            return self._open(with_id, mode, name, ModelVersionNotFound)
        with self.lock:
            self.things[model].versions += 1
            made = f"{model}-{self.things[model].versions}"
            return self._create(made, mode, name, {"sys/model_id": model, "sys/stage": "none"})

    def _open(self, name: str, mode: str, called: str, missing: type[Exception]) -> Opened:
        if name not in self.things:
            raise missing
        opened = Opened(self, name, mode)
        if mode != "read-only":
            opened["sys/name"] = called  # the real one renames as well
        return opened

    def _create(self, name: str, mode: str, called: str, fields: dict[str, Any]) -> Opened:
        assert mode == "sync", "a model can't be created otherwise, and async loses errors"
        with self.lock:
            if name in self.things:
                raise NeptuneModelKeyAlreadyExistsError
            self.things[name] = Thing({"sys/id": name, "sys/name": called, **fields})
        return Opened(self, name, mode)


class Opened:
    """An opened thing, until it is stopped."""

    def __init__(self, client: FakeNeptune, name: str, mode: str) -> None:
        self._client, self._mode, self._thing = client, mode, client.things[name]
        self._open = True

    def __getitem__(self, path: str) -> Value:
        return Value(self, path)

    def __setitem__(self, path: str, value: Any) -> None:
        assert self._mode == "sync"
        assert isinstance(value, str | int | float | bool)
        self.fields[path] = value

    @property
    def fields(self) -> dict[str, Any]:
        assert self._open
        return self._thing.fields

    def exists(self, path: str) -> bool:
        assert self._open
        return any(known == path or known.startswith(f"{path}/") for known in self.fields)

    def fetch(self) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for path, value in dict(self.fields).items():
            *above, name = path.split("/")
            place = tree
            for part in above:
                place = place.setdefault(part, {})
            place[name] = value
        return tree

    def pop(self, path: str) -> None:
        assert self._mode == "sync"
        del self.fields[path]

    def change_stage(self, stage: str) -> None:
        assert stage in ("none", "staging", "production", "archived")
        self["sys/stage"] = stage

    def fetch_model_versions_table(
        self, *, columns: Iterable[str], sort_by: str, ascending: bool, progress_bar: bool
    ) -> Table:
        with self._client.lock:
            rows = [thing.fields for thing in self._client.things.values() if self._has(thing)]
        return Table([Row({path: row[path] for path in columns if path in row}) for row in rows])

    def stop(self) -> None:
        self._open = False

    def _has(self, thing: Thing) -> bool:
        return thing.fields.get("sys/model_id") == self.fields["sys/id"]


@dataclass(frozen=True)
class Value:
    """One field of a thing, or all below a path."""

    opened: Opened
    path: str

    def fetch(self) -> Any:
        fields = self.opened.fields
        if self.path in fields:
            return fields[self.path]
        below = f"{self.path}/"
        return {path.removeprefix(below): value for path, value in fields.items() if path.startswith(below)}

    def upload(self, file: str, *, wait: bool) -> None:
        self.opened.fields[self.path] = Path(file).read_bytes()

    def download(self, file: str, *, progress_bar: bool) -> None:
        Path(file).write_bytes(self.opened.fields[self.path])


@dataclass(frozen=True)
class Table:
    """What a search found."""

    rows: list[Row]

    def to_rows(self) -> list[Row]:
        return self.rows


@dataclass(frozen=True)
class Row:
    """One version in a table."""

    values: dict[str, Any]

    def get_attribute_value(self, path: str) -> Any:
        if path not in self.values:
            raise ValueError(path)
        return self.values[path]
