"""The feature stores of this repo, by the scheme of their URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.adapters.feature_store.redis import RedisStore
from serving.adapters.feature_store.redis_writer import RedisWriter
from serving.adapters.feature_store.sqlite import SqliteStore
from serving.domain.ports import FeatureStore, FeatureWriter

READERS: Mapping[str, Callable[[str], FeatureStore]] = {"redis": RedisStore.open, "sqlite": SqliteStore.open}
WRITERS: Mapping[str, Callable[[str], FeatureWriter]] = {"redis": RedisWriter.open, "sqlite": SqliteStore.open}
