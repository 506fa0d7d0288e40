"""The input files: what a path, a folder or a pattern names, and whether each is still as it was at the start."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.domain.errors import OperatorError, quoted

CSV, PARQUET = ".csv", ".parquet"
KINDS = (CSV, PARQUET)


@dataclass(frozen=True)
class InputFile:
    """Name a file, and its size and time when the run began."""

    path: str
    size: int
    modified_ns: int

    @property
    def kind(self) -> str:
        """Its kind, by its ending."""
        return Path(self.path).suffix.lower()

    def check_unchanged(self) -> None:
        """Refuse a file that another process has changed.

        :raises OperatorError: its size or time is not what it was
        """
        if seen(Path(self.path)) != self:
            raise OperatorError(
                f"{self.path}: has changed since the run began; when it is whole, run again with --restart."
            )


def find(words: Sequence[str], output: Path) -> tuple[InputFile, ...]:
    """Return the files that paths, folders and patterns name, each once, in the order of the words.

    :raises OperatorError: a word names none, or one that is no CSV or Parquet file, or where the output goes
    """
    found: dict[Path, None] = {}
    for word in words:
        paths = _of_word(word)
        if not paths:
            raise OperatorError(
                f"{quoted(word, 200)}: there is no such file, folder or pattern of CSV or Parquet files."
            )
        found |= dict.fromkeys(paths)
    target = output.resolve()
    for path in found:
        if path.suffix.lower() not in KINDS:
            raise OperatorError(f"{path}: must end in {' or '.join(KINDS)}; rename or convert it.")
        if path.resolve() == target:
            raise OperatorError(f"{path}: is both input and output; name another output.")
    for word in words:
        if Path(word).is_dir() and target.is_relative_to(Path(word).resolve()):
            raise OperatorError(f"{output}: lies in the input folder {word}; name an output outside of it.")
    return tuple(seen(path) for path in found)


def seen(path: Path) -> InputFile:
    """Return a file as it is now.

    :raises OperatorError: it can't be read
    """
    try:
        state = path.stat()
    except OSError as error:
        raise OperatorError(f"{path}: can't be read ({error.strerror}).") from None
    if not stat.S_ISREG(state.st_mode):
        raise OperatorError(f"{path}: is no regular file; write its content to one.")  # a pipe can't be read twice
    return InputFile(str(path), state.st_size, state.st_mtime_ns)


def _of_word(word: str) -> list[Path]:
    path = Path(word)
    if path.is_dir():
        return [file for file in sorted(path.rglob("*")) if file.suffix.lower() in KINDS and _visible(file, path)]
    if os.path.lexists(word):
        return [path]
    names = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 - a pattern may be absolute
    return [Path(name) for name in names if not Path(name).is_dir()]


def _visible(file: Path, folder: Path) -> bool:
    """Leave out what writers of data sets hide: names that begin with . or _."""
    return file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
