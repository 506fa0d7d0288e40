"""Feast's online stores with atomic writes, without retries, and with a way to delete entities.

`feature_store.yaml` names these classes as the `type` of its online store, as Feast requires for custom stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import redis
from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key, serialize_entity_key_prefix
from feast.infra.online_stores.helpers import _redis_key
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.infra.online_stores.sqlite import _table_id as table_id
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from redis.backoff import NoBackoff
from redis.retry import Retry

_BATCH = 1000


class WholeRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """The address of Redis, and its timeouts."""

    type: Literal["serving.adapters.feature_store.feast_online.WholeRedisOnlineStore"]  # type: ignore[assignment]
    skip_dedup: bool = True
    """False: Feast would drop a row whose event time is not newer, so a corrected value would never arrive."""
    socket_timeout: float = 0.05
    """Timeouts in seconds: to connect, and for each part of an answer."""
    username: str = ""
    password_file: str = ""


class _WholeRedis(redis.Redis):
    """Run every pipeline as one transaction: by default, readers see partial writes."""

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        return super().pipeline(transaction=True, shard_hint=shard_hint)


class WholeRedisOnlineStore(RedisOnlineStore):
    """Keep features in one Redis; without client retries, which made a read of a dead Redis take 8 seconds."""

    def _get_client(self, online_store_config: WholeRedisOnlineStoreConfig) -> Any:  # type: ignore[override]
        if self._client is None:
            (node, *_), options = self._parse_connection_string(online_store_config.connection_string)
            if online_store_config.username:
                options["username"] = online_store_config.username
            if online_store_config.password_file:
                options["password"] = Path(online_store_config.password_file).read_text(encoding="utf-8").strip()
            self._client = _WholeRedis(
                host=node["host"],
                port=int(node["port"]),
                socket_timeout=online_store_config.socket_timeout,
                socket_connect_timeout=online_store_config.socket_timeout,
                retry=Retry(NoBackoff(), 0),
                **options,
            )
        return self._client

    def retain(self, config: RepoConfig, view: FeatureView, keys: Sequence[EntityKey]) -> None:
        """Delete all values of every entity but these."""
        kept = set(_names(config, keys))
        prefix = serialize_entity_key_prefix(view.join_keys, config.entity_key_serialization_version)
        pattern = b"".join([_escaped(prefix), b"*", config.project.encode()])
        client = self._get_client(config.online_store)
        found = client.scan_iter(match=pattern, count=_BATCH)
        while chunk := list(islice(found, _BATCH)):
            if gone := [name for name in chunk if name not in kept]:
                client.delete(*gone)

    def remove(self, config: RepoConfig, view: FeatureView, keys: Sequence[EntityKey]) -> int:
        """Delete all values of these entities; return how many had some."""
        return int(self._get_client(config.online_store).delete(*_names(config, keys))) if keys else 0


class ErasableSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """The path of the file."""

    type: Literal["serving.adapters.feature_store.feast_online.ErasableSqliteOnlineStore"]  # type: ignore[assignment]


class ErasableSqliteOnlineStore(SqliteOnlineStore):
    """Keep features in a SQLite file, for work on one machine."""

    def retain(self, config: RepoConfig, view: FeatureView, keys: Sequence[EntityKey]) -> None:
        """Delete all values of every entity but these."""
        table = table_id(config.project, view).replace('"', '""')
        version, connection = config.entity_key_serialization_version, self._get_conn(config)
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
        with connection:
            connection.execute("CREATE TEMP TABLE kept (entity_key BLOB PRIMARY KEY)")
            names = ((serialize_entity_key(key, version),) for key in keys)
            connection.executemany("INSERT OR IGNORE INTO kept VALUES (?)", names)
            query = f'DELETE FROM "{table}" WHERE entity_key NOT IN kept'  # noqa: S608 - ours; a name can't be bound
            connection.execute(query)
            connection.execute("DROP TABLE kept")

    def remove(self, config: RepoConfig, view: FeatureView, keys: Sequence[EntityKey]) -> int:
        """Delete all values of these entities; return how many had some."""
        table = table_id(config.project, view).replace('"', '""')
        connection, removed = self._get_conn(config), 0
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
        with connection:
            for key in keys:
                name = serialize_entity_key(key, config.entity_key_serialization_version)
                query = f'DELETE FROM "{table}" WHERE entity_key = ?'  # noqa: S608 - as above
                removed += connection.execute(query, [name]).rowcount > 0
        return removed


def _names(config: RepoConfig, keys: Sequence[EntityKey]) -> list[bytes]:
    version = config.entity_key_serialization_version
    return [_redis_key(config.project, key, entity_key_serialization_version=version) for key in keys]


def _escaped(prefix: bytes) -> bytes:
    """Escape the special bytes of a Redis pattern."""
    return b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\^-" else bytes([byte]) for byte in prefix)
