"""Show rows per second and the time left on standard error, if somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

from serving.offline.score.files import InputFile
from serving.offline.score.scorer import Scored


class Progress:
    """Count rows; how many there are follows from the share of the bytes that was read."""

    def __init__(self, found: Sequence[InputFile], done: int) -> None:
        self._sizes = [file.size for file in found]
        self._bar = tqdm(unit="row", unit_scale=True, initial=done, disable=not sys.stderr.isatty(), file=sys.stderr)
        self._rows = done

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def add(self, scored: Scored) -> None:
        """Count the rows of a chunk."""
        rows = scored.counts.rows + scored.counts.rejected
        self._rows += rows
        number = scored.after[0]
        read = sum(self._sizes[:number]) + self._sizes[number] * scored.read
        self._bar.total = max(self._rows, round(self._rows * sum(self._sizes) / max(read, 1)))
        self._bar.update(rows)
