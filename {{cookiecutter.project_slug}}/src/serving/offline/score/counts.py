"""What a run counts, and the rows that it refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.domain.features import Feature, Missing

_DAY_S = 86_400


@dataclass(frozen=True)
class Refusal:
    """Say which row of which file was refused, the column at fault, and the reason."""

    file: str
    row: int
    column: str
    reason: str


@dataclass
class Counts:
    """Count rows, and by feature those that used a fallback or a stale value."""

    rows: int = 0
    rejected: int = 0
    defaulted: Counter[str] = field(default_factory=Counter)
    last_known: Counter[str] = field(default_factory=Counter)
    stale: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Counts:
        """Return the counts of a record that was kept as JSON."""
        flags = (Counter(record[name]) for name in ("defaulted", "last_known", "stale"))
        return cls(record["rows"], record["rejected"], *flags)

    def add(self, other: Counts) -> None:
        """Add the counts of further rows."""
        self.rows, self.rejected = self.rows + other.rows, self.rejected + other.rejected
        for mine, theirs in (
            (self.defaulted, other.defaulted),
            (self.last_known, other.last_known),
            (self.stale, other.stale),
        ):
            mine.update(theirs)


class Staleness:
    """Receive enrichment metrics, and count stale values as the server's metric does."""

    def __init__(self) -> None:
        self.stale: Counter[str] = Counter()

    def store_read(self, seconds: float) -> None:
        """Leave it out."""

    def store_failed(self, reason: str) -> None:
        """Leave it out: the run ends, or the flags say it."""

    def stood_in(self, feature: Feature, what: Missing, rows: int) -> None:
        """Leave it out: the flags say it."""

    def served(self, feature: Feature, ages: npt.NDArray[np.float64]) -> None:
        """Count values that are older than the feature allows."""
        if feature.max_age_days is not None:
            self.stale[feature.name] += int((ages > feature.max_age_days * _DAY_S).sum())
