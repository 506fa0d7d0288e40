"""The feature stores that this repo can open, by the scheme of their URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.adapters.redis_store import RedisStore, RedisWriter
from serving.adapters.sqlite_store import SqliteStore
from serving.ports import FeatureStore, FeatureWriter

DEFAULT_URL = "sqlite:data/features.db"
"""For work without containers; compose/feature_store.yaml sets the Redis URL."""

READERS: Mapping[str, Callable[[str], FeatureStore]] = {"redis": RedisStore.open, "sqlite": SqliteStore.open}
WRITERS: Mapping[str, Callable[[str], FeatureWriter]] = {"redis": RedisWriter.open, "sqlite": SqliteStore.open}
