"""The feature store of Feast: its SDK in this process, with Redis in containers and SQLite on a laptop.

Feast's calls block, so they run in a few threads with a bounded queue, and a caller waits no longer than its deadline.
Feast's feature server and registry server are never started.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis
from feast import FeatureStore as Feast
from feast.errors import FeastError
from google.protobuf.message import DecodeError

from serving.adapters.feature_store.breaker import Breaker
from serving.adapters.feature_store.feast_definitions import VIEW, WATERMARK, WATERMARK_ENTITY, WATERMARK_VIEW
from serving.adapters.feature_store.feast_values import to_column
from serving.domain.errors import FeaturesNotFilled, FeatureStoreUnavailable, SettingsError, quoted
from serving.domain.features import Feature, FeatureSet
from serving.domain.ports import Column

log = logging.getLogger(__name__)

FAILURES = (redis.RedisError, sqlite3.Error, FeastError, OSError, DecodeError)
"""What Feast raises when its online store or registry can't be used."""

_THREADS = 4
_WAITING = 64
_REFRESH_S = 10.0
_UNREADABLE = "the feature store can't be read; fill it with `make features`."


class FeastStore:
    """Read static features through Feast.

    The warm-up read loads the registry, and a background thread refreshes it: no call waits for it. A registry that
    does not exist yet means an unavailable store.
    """

    def __init__(self, configuration: Path, breaker: Breaker) -> None:
        self._configuration = configuration
        self._breaker = breaker
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="feast")
        self._places = threading.BoundedSemaphore(_THREADS + _WAITING)
        self._loading = threading.Lock()
        self._feast: Feast | None = None
        self._key = ""
        self._closed = threading.Event()

    @classmethod
    def open(cls, url: str) -> FeastStore:
        """Open `feast:<path of a feature_store.yaml>`; the first read connects."""
        return cls(configuration_of(url), Breaker())

    def supplies(self, features: FeatureSet) -> tuple[Feature, ...]:
        """Return all static features."""
        return features.static

    async def read(
        self, entities: Sequence[bytes], features: Sequence[Feature], *, timeout: float
    ) -> Mapping[str, Column]:
        """Read features for each entity in one round trip."""
        with self._breaker.guard(FAILURES, timeout=timeout, unreadable=_UNREADABLE):
            if not self._places.acquire(blocking=False):
                raise FeatureStoreUnavailable("the feature store has more reads waiting than it can answer in time.")
            reading = self._pool.submit(self._read, entities, features)
            reading.add_done_callback(lambda _: self._places.release())
            async with asyncio.timeout(timeout):
                return await asyncio.wrap_future(reading)

    async def close(self) -> None:
        """Stop the threads; reads in progress end by their timeouts."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, entities: Sequence[bytes], features: Sequence[Feature]) -> Mapping[str, Column]:
        feast = self._loaded()
        rows = [row for row, entity in enumerate(entities) if entity]  # Feast fails on an empty key
        if not rows:
            return {
                feature.name: Column.of_cells(feature, [None] * len(entities), [0] * len(entities))
                for feature in features
            }
        answer = feast.get_online_features(
            [f"{VIEW}:{feature.name}" for feature in features],
            {self._key: [entities[row] for row in rows]},
        ).proto
        vectors = dict(zip(answer.metadata.feature_names.val, answer.results, strict=True))
        columns = {feature.name: to_column(feature, vectors[feature.name], rows, len(entities)) for feature in features}
        if not any(column.present.any() for column in columns.values()):
            self._check_filled(feast)
        return columns

    def _check_filled(self, feast: Feast) -> None:
        """Look for the row that a materialization leaves; without it nobody is unknown, since the store was not filled.

        :raises FeaturesNotFilled: the row is missing
        """
        row = {WATERMARK_ENTITY.join_key: [WATERMARK]}
        answer = feast.get_online_features([f"{WATERMARK_VIEW}:{WATERMARK}"], row).proto
        if answer.results[-1].values[0].WhichOneof("val") is None:
            raise FeaturesNotFilled

    def _loaded(self) -> Feast:
        with self._loading:
            if self._feast is None:
                feast = open_feast(self._configuration)
                if not registry_file(feast).exists():  # Feast would create an empty one
                    raise FeaturesNotFilled
                logging.getLogger("feast").setLevel(logging.WARNING)  # it logs every refresh
                (self._key,) = feast.get_feature_view(VIEW).join_keys
                self._feast = feast
                threading.Thread(target=self._refresh, args=(feast,), name="feast-registry", daemon=True).start()
        return self._feast

    def _refresh(self, feast: Feast) -> None:
        while not self._closed.wait(_REFRESH_S):
            try:
                feast.refresh_registry()  # type: ignore[no-untyped-call]
            except FAILURES as error:
                log.warning(
                    "the feature registry can't be refreshed, so the one read before stays in use: %s",
                    quoted(error, 200),
                )


def configuration_of(url: str) -> Path:
    """Return the configuration file that a URL names."""
    path = url.removeprefix("feast:")
    if not path:
        raise SettingsError(
            f"feature store {quoted(url)} names no file; write feast:config/feature_repo/feature_store.yaml."
        )
    return Path(path).absolute()


def open_feast(configuration: Path) -> Feast:
    """Return Feast with this configuration file; its relative paths start at its folder."""
    if not configuration.is_file():
        raise FileNotFoundError(f"{quoted(str(configuration))} does not exist")
    return Feast(repo_path=str(configuration.parent), fs_yaml_file=configuration)


def registry_file(feast: Feast) -> Path:
    """Return the path of Feast's registry file."""
    return feast.repo_path / str(feast.config.registry.path)
