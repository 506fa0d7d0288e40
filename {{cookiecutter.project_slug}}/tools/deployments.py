"""The history of this clone's deployments, in deployments.jsonl: what was to serve, and what did.

`target` is written before the first container is touched, `serving` or `returned` (by a rollback) once every new
replica is healthy and before an old one stops, and `done` at the end. So an interrupted command can be continued.

A long file is shortened. What served stays: the newest 100 versions, to which rollbacks return one by one. So do the
last 100 events after that.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from serving.domain.errors import OperatorError

_MAX_EVENTS = 500
_KEPT = 100


class Kind(StrEnum):
    """What happened to a deployment."""

    TARGET = "target"
    SERVING = "serving"
    RETURNED = "returned"
    DONE = "done"
    FAILED = "failed"


_SERVED = (Kind.SERVING, Kind.RETURNED)


@dataclass(frozen=True)
class Target:
    """What is to serve: a version and its number of replicas; their label carries `deployment`."""

    deployment: str
    reference: str
    replicas: int


@dataclass(frozen=True)
class _Event:
    kind: Kind
    target: Target
    at: str


class Deployments:
    """The deployments of one clone, oldest first."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, reference: str, replicas: int) -> Target:
        """Record a new target and return it; if this version serves, but old replicas are left, return that target."""
        events = self._read()
        if events and events[-1].kind in _SERVED and events[-1].target.reference == reference:
            return events[-1].target
        target = Target(secrets.token_hex(4), reference, replicas)
        self.record(Kind.TARGET, target)
        return target

    def record(self, kind: Kind, target: Target) -> None:
        """Append an event."""
        line = _line(_Event(kind, target, datetime.now(UTC).isoformat(timespec="seconds")))
        self._drop_torn_line()
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
        if len(events := self._read()) > _MAX_EVENTS:
            self._shorten(events)

    def current(self) -> Target | None:
        """Return what was last served."""
        served = _served(self._read())
        return served[-1].target if served else None

    def before(self) -> str | None:
        """Return the version that served before the present one; a rollback drops the later ones."""
        served = _served(self._read())
        return served[-2].target.reference if len(served) > 1 else None

    def _drop_torn_line(self) -> None:
        """Cut off a last line that a crash left without its end."""
        if self._path.exists() and (whole := self._path.read_bytes().rpartition(b"\n"))[2]:
            os.truncate(self._path, len(whole[0]) + len(whole[1]))

    def _shorten(self, events: Sequence[_Event]) -> None:
        """Replace the file by one with the same meaning."""
        # As `serving` they lead to the same present one; `returned` would drop those between.
        served = [replace(event, kind=Kind.SERVING) for event in _served(events)[-_KEPT:]]
        last = max((place for place, event in enumerate(events) if event.kind in _SERVED), default=-1)
        draft = self._path.with_name(f".{self._path.name}.new")
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{_line(event)}\n" for event in (*served, *events[last + 1 :][-_KEPT:]))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)

    def _read(self) -> list[_Event]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        lines = text.split("\n")[:-1]  # what follows the last line break was cut off by a crash
        try:
            return [_ADAPTER.validate_json(line) for line in lines]
        except ValidationError as error:
            where = error.errors()[0]["loc"]
            raise OperatorError(
                f"{self._path}: a line is not one of a deployment ({'.'.join(map(str, where)) or 'no JSON'}); "
                "remove the file to forget earlier deployments."
            ) from None


_ADAPTER = TypeAdapter(_Event)


def _line(event: _Event) -> str:
    return json.dumps(asdict(event))


def _served(events: Sequence[_Event]) -> list[_Event]:
    """Return the events that lead to what serves now, no two neighbours of one version."""
    stack: list[_Event] = []
    for event in events:
        if event.kind not in _SERVED:
            continue
        reference = event.target.reference
        found = [place for place, known in enumerate(stack) if known.target.reference == reference]
        if found and (event.kind is Kind.RETURNED or found[-1] == len(stack) - 1):
            del stack[found[-1] :]
        stack.append(event)
    return stack
