"""The feature stores of this repo, by the scheme of their URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.adapters.feature_store.sqlite import SqliteStore
from serving.domain.ports import FeatureStore, FeatureWriter

READERS: Mapping[str, Callable[[str], FeatureStore]] = {"sqlite": SqliteStore.open}
WRITERS: Mapping[str, Callable[[str], FeatureWriter]] = {"sqlite": SqliteStore.open}
