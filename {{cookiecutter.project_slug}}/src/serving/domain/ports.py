"""The ports: interfaces to the outside, each with at most four methods.

Every adapter of a port passes the same contract suite in `tests/platform/contract/`, and so do the fakes in
`tests/platform/support/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from serving.domain.artifacts import Artifact
from serving.domain.features import Feature, FeatureSet
from serving.domain.references import Reference
from serving.domain.tensors import Tensor, Tensors


@dataclass(frozen=True)
class Column:
    """Hold one feature for the requested entities.

    `values` has one row per entity; where `present` is false its content means nothing. `times` says since when each
    value holds, in seconds since 1970; 0 means unknown.
    """

    values: Tensor
    present: npt.NDArray[np.bool_]
    times: npt.NDArray[np.int64]

    @classmethod
    def of_cells(cls, feature: Feature, cells: Sequence[Any], times: Sequence[int]) -> Column:
        """Build a column from one value per row; None means missing."""
        present = np.array([cell is not None for cell in cells], dtype=np.bool_)
        values = np.zeros((len(cells), *feature.shape), feature.datatype.dtype)
        if present.all():  # the common case, and many times faster than row by row
            values[:] = cells
        else:
            for row in np.flatnonzero(present).tolist():
                values[row] = cells[row]
        return cls(values, present, np.array(times, np.int64))


@dataclass(frozen=True)
class FeatureRows:
    """Hold one write to a feature store: a row per entity, a column per feature.

    `times` says since when each row's values hold, in seconds since 1970. The watermark is kept together with the rows;
    an empty one leaves the present one.
    """

    features: Sequence[Feature]
    entities: Sequence[bytes]
    columns: Tensors
    times: npt.NDArray[np.int64] | None = None
    watermark: str = ""

    def dates(self) -> list[int]:
        """Return the time of each row; 0 where it is unknown."""
        return [0] * len(self.entities) if self.times is None else self.times.tolist()


class FeatureStore(Protocol):
    """Read static features by entity key."""

    def supplies(self, features: FeatureSet) -> tuple[Feature, ...]:
        """Return the features that this store provides; callers send the others."""

    async def read(
        self, entities: Sequence[bytes], features: Sequence[Feature], *, timeout: float
    ) -> Mapping[str, Column]:
        """Read features for each entity, in order; an unknown entity or value is not present, never zero.

        A read that is cancelled says nothing about the store.

        :raises FeatureStoreUnavailable: there was no answer within `timeout` seconds, or none at all
        :raises FeaturesNotFilled: the store answers, but was never filled, or has lost everything
        :raises FeaturesOutdated: a value was stored with another type or shape than the feature has now
        """

    async def close(self) -> None:
        """Release connections; safe to call twice."""


class FeatureWriter(Protocol):
    """Fill a feature store; used by batch jobs, never by the server."""

    def write(self, rows: FeatureRows, *, replace: bool = False) -> None:
        """Insert or replace these rows, all or none of them; with `replace`, remove every other entity with it."""

    def delete(self, entities: Sequence[bytes]) -> int:
        """Delete all that is stored of these entities; return how many of them were stored."""

    def watermark(self) -> str:
        """Return the watermark of the last write that had one; empty if the store holds none."""


class ModelRuntime(Protocol):
    """Run one loaded model."""

    concurrency: int
    """How many batches it works on at once."""

    async def warm_up(self, inputs: Tensors, max_rows: int) -> None:
        """Run the model until its timing is known; `inputs` are valid rows."""

    async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
        """Run the model on one batch; return or raise only when the work has ended.

        :raises ModelFailed: the model raised
        :raises InvalidRequest: this kind of model can't take such an element
        :raises DeadlineExceeded: there was no answer within `timeout` seconds
        :raises NotReady: the model runs in another process, which can't be asked now
        """

    async def close(self) -> None:
        """Release the model; safe to call twice."""


class Loader(Protocol):
    """Open the model of one artifact format."""

    def __call__(self, artifact: Artifact, *, threads: int) -> ModelRuntime:
        """Load a verified artifact; `threads` bounds the threads of one call.

        :raises ArtifactError: the runtime refuses the model, or it does not fit its manifest
        """


@dataclass(frozen=True)
class RegisteredVersion:
    """Describe one version in a registry.

    `registered_at` is ISO 8601 in UTC; `origin` is the reference that it was copied from, if it was.
    """

    reference: Reference
    registered_at: str
    origin: str = ""


@dataclass(frozen=True)
class Promotion:
    """Record that a version got a stage; `number` counts all promotions of a model from 1.

    `kind` is `promote` or `rollback`, `at` is ISO 8601 in UTC, `by` says who did it. `replaced` is the digest that was
    served before, and what a rollback goes back to; empty if there was none.
    """

    number: int
    stage: str
    version: str
    digest: str
    at: str
    by: str
    kind: str = "promote"
    replaced: str = ""


@dataclass(frozen=True)
class ModelRecord:
    """Hold a model's complete versions, oldest first, and its promotions by number."""

    versions: tuple[RegisteredVersion, ...] = ()
    promotions: tuple[Promotion, ...] = ()


class RegistryBackend(Protocol):
    """Store the records of `serving.offline.registry`; opened by offline commands, never by the server.

    Every method raises RegistryUnavailable where the registry gives no usable answer within `timeout` seconds.
    """

    def read(self, model: str, *, timeout: float) -> ModelRecord:
        """Return a model's record; an empty one for an unknown model."""

    def add(self, model: str, artifact: Path, digest: str, origin: str, *, timeout: float) -> RegisteredVersion:
        """Store a verified artifact as the next version; an incomplete one is never listed."""

    def download(self, version: Reference, folder: Path, *, timeout: float) -> None:
        """Download the files of a version to an empty folder; the caller verifies them."""

    def append(self, model: str, promotion: Promotion, *, timeout: float) -> None:
        """Record a promotion.

        :raises StalePromotion: its number is taken
        """
