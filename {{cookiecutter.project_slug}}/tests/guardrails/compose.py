"""Compose files as entries that know their line, and services put together from all files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

_NAMES = ("compose*.y*ml", "docker-compose*.y*ml", "compose/**/*.y*ml")


@dataclass(frozen=True)
class Entry:
    """One value of a YAML file; scalars are the text that stands there."""

    file: str
    line: int
    value: str | dict[str, Entry] | list[Entry]

    def get(self, *path: str) -> Entry | None:
        """Return the entry below these keys."""
        entry: Entry | None = self
        for key in path:
            entry = entry.value.get(key) if entry is not None and isinstance(entry.value, dict) else None
        return entry

    def below(self) -> list[tuple[str, Entry]]:
        """Return keys and entries; in a list, `NAME=value` counts as a key and a value, as Compose has it."""
        if isinstance(self.value, dict):
            return list(self.value.items())
        if isinstance(self.value, list):
            return [_as_pair(entry) for entry in self.value]
        return []

    def texts(self) -> list[str]:
        """Return the text of a scalar, the texts of a list, or the keys of a mapping."""
        if isinstance(self.value, str):
            return [self.value]
        if isinstance(self.value, dict):
            return list(self.value)
        return [str(entry.value) for entry in self.value]

    def scalars(self, *path: str) -> Iterator[tuple[tuple[str, ...], Entry]]:
        """Give every scalar below this entry with the keys that lead to it."""
        if isinstance(self.value, str):
            yield path, self
        elif isinstance(self.value, dict):
            for key, entry in self.value.items():
                yield from entry.scalars(*path, key)
        else:
            for entry in self.value:
                yield from entry.scalars(*path)


@dataclass(frozen=True)
class Service:
    """A service with what each file says of it; `optional` parts stand in files that are laid over on demand."""

    name: str
    parts: tuple[Entry, ...]
    optional: tuple[Entry, ...] = ()

    @property
    def entry(self) -> Entry:
        """The entry to point at when something is missing."""
        return (*self.parts, *self.optional)[0]

    def all(self, *path: str) -> list[Entry]:
        """Return what any file says below these keys."""
        return [found for part in (*self.parts, *self.optional) if (found := part.get(*path)) is not None]

    def always(self, *path: str) -> list[Entry]:
        """Return what is said below these keys without any optional file."""
        return [found for part in self.parts or self.optional if (found := part.get(*path)) is not None]

    def environment(self) -> list[tuple[str, Entry]]:
        """Return the variables that any file sets."""
        return [pair for block in self.all("environment") for pair in block.below()]


def read(root: Path, file: Path) -> Entry:
    """Read a YAML file; aliases and merge keys (`<<`) are resolved."""
    return _read(root, file, file.stat().st_mtime_ns)


@cache
def _read(root: Path, file: Path, _modified_ns: int) -> Entry:
    name = file.relative_to(root).as_posix()
    loader = yaml.SafeLoader(file.read_text(encoding="utf-8"))
    try:
        node = loader.get_single_node()
        return _entry(name, node, loader) if node is not None else Entry(name, 1, {})
    finally:
        loader.dispose()


def read_every(root: Path, file: Path) -> list[Entry]:
    """Read a YAML file with several documents."""
    loader = yaml.SafeLoader(file.read_text(encoding="utf-8"))
    found = []
    try:
        while loader.check_node():
            found.append(_entry(file.relative_to(root).as_posix(), loader.get_node(), loader))
    finally:
        loader.dispose()
    return found


def files(root: Path) -> list[Path]:
    """Return all Compose files of the repo."""
    return sorted({file for name in _NAMES for file in root.glob(name)})


def services(root: Path) -> list[Service]:
    """Return every service, put together from compose.yaml with what it includes, and from the optional files."""
    included, optional = _split_by_use(root)
    parts: dict[str, tuple[list[Entry], list[Entry]]] = {}
    for kind, group in enumerate((included, optional)):
        for document in group:
            block = document.get("services")
            for name, entry in block.below() if block else []:
                parts.setdefault(name, ([], []))[kind].append(entry)
    return [Service(name, tuple(always), tuple(overlays)) for name, (always, overlays) in parts.items()]


def documents(root: Path) -> list[Entry]:
    """Return all Compose files, read."""
    return [read(root, file) for file in files(root)]


def _split_by_use(root: Path) -> tuple[list[Entry], list[Entry]]:
    everything = {document.file: document for document in documents(root)}
    start = next((name for name in ("compose.yaml", "docker-compose.yaml") if name in everything), None)
    if start is None:
        return list(everything.values()), []
    used: set[str] = {start}
    include = everything[start].get("include")
    for _, entry in include.scalars("include") if include else []:
        used.add((root / str(entry.value)).resolve().relative_to(root.resolve()).as_posix())
    return (
        [document for name, document in everything.items() if name in used],
        [document for name, document in everything.items() if name not in used],
    )


def _entry(file: str, node: yaml.Node, loader: yaml.SafeLoader) -> Entry:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        return Entry(file, line, {str(key.value): _entry(file, value, loader) for key, value in node.value})
    if isinstance(node, yaml.SequenceNode):
        return Entry(file, line, [_entry(file, item, loader) for item in node.value])
    return Entry(file, line, str(node.value))


def _as_pair(entry: Entry) -> tuple[str, Entry]:
    if not isinstance(entry.value, str):
        return "", entry
    name, _, value = entry.value.partition("=")
    return name, Entry(entry.file, entry.line, value)
