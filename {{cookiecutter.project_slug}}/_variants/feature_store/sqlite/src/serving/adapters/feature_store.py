"""The feature stores that this repo can open, by the scheme of their URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.adapters.sqlite_store import SqliteStore
from serving.ports import FeatureStore, FeatureWriter

DEFAULT_URL = "sqlite:data/features.db"
READERS: Mapping[str, Callable[[str], FeatureStore]] = {"sqlite": SqliteStore.open}
WRITERS: Mapping[str, Callable[[str], FeatureWriter]] = {"sqlite": SqliteStore.open}
