"""The rows that a model is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.modeling.history import Times


@dataclass(frozen=True)
class Dataset:
    """Hold one row per example: its entity key, when it was observed, a column per feature, and the target.

    `times` are seconds since 1970. A column has the shape [rows] or [rows, *shape of the feature]; text is `str`.
    `fit` receives the columns in their declared types and order, derived features last.
    """

    entities: tuple[str, ...]
    times: Times
    columns: Mapping[str, npt.NDArray[Any]]
    target: npt.NDArray[Any]

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

        return pd.DataFrame(dict(self._flat()))

    def _flat(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        for name, column in self.columns.items():
            if column.ndim == 1:
                yield name, column
            else:
                flat = column.reshape(len(self), -1)
                yield from ((f"{name}_{place}", flat[:, place]) for place in range(flat.shape[1]))
