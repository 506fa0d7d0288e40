"""Show rows per second and the time left on standard error, if somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

from serving.offline.score.chunks import Chunk
from serving.offline.score.files import InputFile


class Progress:
    """Count rows; how many there are follows from the share of the bytes that was read."""

    def __init__(self, found: Sequence[InputFile], done: int) -> None:
        self._before = [sum(file.size for file in found[:number]) for number in range(len(found) + 1)]
        self._bar = tqdm(unit="row", unit_scale=True, initial=done, disable=not sys.stderr.isatty(), file=sys.stderr)
        self._rows = done

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def add(self, chunk: Chunk) -> None:
        """Count the rows of a chunk."""
        rows = chunk.columns.num_rows + len(chunk.rejected)
        self._rows += rows
        number = chunk.after[0]
        read = self._before[number] + chunk.file.size * chunk.read
        self._bar.total = max(self._rows, round(self._rows * self._before[-1] / max(read, 1)))
        self._bar.update(rows)
