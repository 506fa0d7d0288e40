"""What a guard finds, and how it says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Violation:
    """One place where a mistake has come back; `file` is relative to the repo, `line` counts from 1."""

    file: str
    line: int
    what: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}\n    why: {self.why}\n    fix: {self.fix}"


def report(found: Iterable[Violation]) -> str:
    """Return all violations as a text for people."""
    return "\n\n" + "\n\n".join(str(violation) for violation in found)
