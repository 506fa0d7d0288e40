"""Static features as they were known at each row's date, read as from a feature store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving.domain.errors import OperatorError, quoted
from serving.domain.features import Feature, FeatureSet
from serving.domain.ports import Column
from serving.modeling import History, Times
from serving.offline.score.column_types import is_text
from serving.offline.score.conversion import Faults


class HistoryStore:
    """Answer for the rows whose moments were set last: the newest values up to each moment, never later ones."""

    def __init__(self, past: History) -> None:
        self._past = past
        self.moments: Times = np.empty(0, np.int64)

    def supplies(self, features: FeatureSet) -> tuple[Feature, ...]:
        """Return all static features.

        :raises OperatorError: model/data.py has no history of one that the model was trained with
        """
        for feature in features.static:
            if feature.name not in self._past.columns:
                raise OperatorError(
                    f"model/data.py: history() returns no {feature.name}, which the pinned model needs; check out the "
                    "commit that trained it."
                )
        return features.static

    async def read(
        self, entities: Sequence[bytes], features: Sequence[Feature], *, timeout: float
    ) -> Mapping[str, Column]:
        """Return what was known; the age of a value says nothing here, so it has no time."""
        keys = [entity.decode("utf-8", "backslashreplace") for entity in entities]
        rows = self._past.as_of(keys, self.moments)
        known, times = rows >= 0, np.zeros(len(rows), np.int64)
        return {f.name: Column(f.tensor(self._past.columns[f.name][rows]), known, times) for f in features}

    async def close(self) -> None:
        """Hold nothing that must be released."""


def moments_of(column: pa.Array) -> tuple[Times, Faults]:
    """Return dates as seconds since 1970, those without a zone in UTC, and what is wrong with rows."""
    if is_text(column.type):
        return _of_text(column.cast(pa.binary()))
    faults = dict.fromkeys(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist(), "holds no date")
    if not pa.types.is_integer(column.type):
        column = column.cast(pa.timestamp("s", getattr(column.type, "tz", None)), safe=False)
    return pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False), faults


def _of_text(column: pa.Array) -> tuple[Times, Faults]:
    times, faults, known = np.zeros(len(column), np.int64), {}, dict[bytes, int]()
    for row, cell in enumerate(column.to_pylist()):
        text = (cell or b"").strip()
        if text not in known:
            try:
                moment = datetime.fromisoformat(text.decode())
            except ValueError:
                faults[row] = f"{quoted(text)} is no date; write YYYY-MM-DD, or ISO 8601" if text else "holds no date"
                continue
            known[text] = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        times[row] = known[text]
    return times, faults
