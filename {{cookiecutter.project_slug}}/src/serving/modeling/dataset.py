"""The rows that a model is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.domain.features import flat
from serving.modeling.history import Times, seconds


@dataclass(frozen=True)
class Dataset:
    """Hold one row per example: its entity key, when it was observed, a column per feature, and the target.

    Lists, arrays and pandas columns are taken; `times` are seconds since 1970, or datetimes. A column has the shape
    [rows] or [rows, *shape of the feature]; text is `str`. `fit` receives the columns in their declared types and
    order, derived features last.
    """

    entities: tuple[str, ...]
    times: Times
    columns: Mapping[str, npt.NDArray[Any]]
    target: npt.NDArray[Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "entities", tuple(map(str, self.entities)))
        object.__setattr__(self, "times", seconds(self.times))
        object.__setattr__(self, "columns", {name: np.asarray(column) for name, column in self.columns.items()})
        object.__setattr__(self, "target", np.asarray(self.target))

    def __len__(self) -> int:
        return len(self.entities)

    def take(self, rows: npt.NDArray[np.intp]) -> Dataset:
        """Return these rows, in this order."""
        return replace(
            self,
            entities=tuple(self.entities[row] for row in rows),
            times=self.times[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
            target=self.target[rows],
        )

    def split(self, *, test_share: float, seed: int) -> tuple[Dataset, Dataset]:
        """Return the rows to train on and the rows to test on, drawn at random; the same for the same seed."""
        order = np.random.default_rng(seed).permutation(len(self))
        test = max(1, round(len(self) * test_share))
        return self.take(order[test:]), self.take(order[:test])

    def frame(self) -> Any:
        """Return the columns as a pandas DataFrame; an array of n values becomes n columns, `name_0` to `name_n-1`."""
        import pandas as pd  # training only: the server's environment has no pandas

        return pd.DataFrame(dict(flat(self.columns)))
