"""The feature stores of this repo, by the scheme of their URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.adapters.feature_store.sqlite import SqliteStore
from serving.domain.ports import FeatureStore, FeatureWriter


def _read_feast(url: str) -> FeatureStore:
    from serving.adapters.feature_store.feast import (
        FeastStore,  # imported late: Feast takes seconds
    )

    return FeastStore.open(url)


def _write_feast(url: str) -> FeatureWriter:
    from serving.adapters.feature_store.feast_writer import FeastWriter

    return FeastWriter.open(url)


READERS: Mapping[str, Callable[[str], FeatureStore]] = {"feast": _read_feast, "sqlite": SqliteStore.open}
WRITERS: Mapping[str, Callable[[str], FeatureWriter]] = {"feast": _write_feast, "sqlite": SqliteStore.open}
