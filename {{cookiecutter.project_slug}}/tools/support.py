"""List what is past its end of support, or soon will be: `make support`.

Exits with 1 if a base image, Python or service is past it or has no date, else with 0. The dates are in
config/support/. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_WITHIN_DAYS = 180
# A pinned image in a Dockerfile or Compose file: `NAME:1.2-suite`, also as a variable's default.
_IMAGE = re.compile(r"^(?:ARG BASE_IMAGE=|FROM | *image: (?:\$\{\w+:-)?)([a-z][a-z0-9./-]*:\d[\w.-]*)", re.MULTILINE)


class TableError(Exception):
    """A table of config/support/ can't be read; the text is one sentence."""


@dataclass(frozen=True)
class Part:
    """A component with its end of support or the date to check again; `image` is empty if it is in no image."""

    name: str
    note: str
    image: str
    ends: date | None
    look_again: date | None

    @property
    def due(self) -> date:
        """The day after which someone must act; a known end may be accepted until a later day."""
        due = self.look_again or self.ends
        if due is None:
            raise TableError(f"config/support: {self.name} has neither `ends` nor `look_again`; give it a date.")
        return due

    def line(self, today: date) -> str:
        """Return a readable line."""
        days = (self.due - today).days
        when = f"{-days} day(s) ago" if days < 0 else f"in {days} day(s)"
        known = f"support ends {self.ends}" if self.ends else "no end of support is published"
        again = f"; look again by {self.look_again}" if self.look_again else ""
        return f"{self.name}: {known}{again} ({when}). {self.note}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is due; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.support", description=__doc__)
    parser.add_argument("--within", type=int, default=_WITHIN_DAYS, metavar="DAYS", help="default %(default)s")
    parser.add_argument("--today", type=date.fromisoformat, default=date.today(), metavar="YYYY-MM-DD")
    options = parser.parse_args(arguments)
    pinned = images(ROOT)
    table = parts(ROOT)
    used = sorted(in_use(table, pinned), key=lambda part: part.due)
    unknown = unlisted(table, pinned)
    for image in unknown:
        print(f"{image}: is not in config/support/; look up its end of support and add it")
    for part in used:
        if (part.due - options.today).days <= options.within:
            print(part.line(options.today))
    late = [part for part in used if part.due < options.today]
    if not late and not unknown:
        print(f"nothing is overdue; the next is {used[0].name}, {used[0].due}")
    return int(bool(late or unknown))


def images(root: Path) -> list[str]:
    """Return the pinned images that this repo's Dockerfiles and Compose files name."""
    files = [*root.glob("Dockerfile"), *root.glob("*/Dockerfile"), *root.glob("compose/*.yaml")]
    return sorted({image for file in files for image in _IMAGE.findall(file.read_text(encoding="utf-8"))})


def parts(root: Path) -> list[Part]:
    """Return all rows of config/support/.

    :raises TableError: a file is no such table
    """
    found = []
    for file in sorted((root / "config" / "support").glob("*.toml")):
        try:
            rows = tomllib.loads(file.read_text(encoding="utf-8"))["part"]
            found += [
                Part(row["name"], row["note"], row.get("image", ""), row.get("ends"), row.get("look_again"))
                for row in rows
            ]
        except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise TableError(f"{file}: each [[part]] needs a name and a note ({error}).") from None
    return found


def in_use(table: Iterable[Part], pinned: Sequence[str]) -> list[Part]:
    """Return the rows of this repo's images, and those of no image."""
    return [part for part in table if not part.image or any(fnmatchcase(image, part.image) for image in pinned)]


def unlisted(table: Iterable[Part], pinned: Sequence[str]) -> list[str]:
    """Return the images without a row for the program or for its Debian release."""
    patterns = [part.image for part in table if part.image]
    missing = []
    for image in pinned:
        matching = [pattern for pattern in patterns if fnmatchcase(image, pattern)]
        own = [pattern for pattern in matching if not pattern.startswith("*")]
        if not own or len(own) == len(matching):
            missing.append(image)
    return missing


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TableError as error:
        sys.exit(f"error: {error}")
