"""The feature store in Redis: one hash per entity, read in one round trip per batch.

Rows are kept in generations: `features:<generation>:<entity>`. `features-present` names the generation to read, which a
large write replaces as a whole. A key that is not there means an unknown entity. A Redis that was restarted empty
answers every read with success and nothing in it, but it has no `features-present` either.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import numpy as np
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff

from serving.adapters.feature_store.breaker import Breaker
from serving.domain.errors import FeaturesNotFilled, FeaturesOutdated, SettingsError, quoted
from serving.domain.features import Feature, FeatureSet
from serving.domain.ports import Column
from serving.domain.tensors import Tensor

PRESENT = b"features-present"
"""The generation to read, then the watermark of the last materialization. An emptied Redis has no such key."""

_SOCKET_TIMEOUT_S = 1.0
"""A bound for what is left of a read that was given up; the read itself is bounded by its own timeout, 50 ms."""
_TIME = struct.Struct("<q")
"""Before each value: since when it holds, then its form, then a colon."""


@dataclass(frozen=True)
class Address:
    """Say where a Redis is, and as whom to enter: `redis://user@host:6379/0?password_file=/run/secrets/...`."""

    host: str
    port: int
    database: int
    user: str | None
    password: str | None

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL and the file with the password that it names; a password in the URL itself is refused."""
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        try:
            port, database = parts.port or 6379, int(parts.path.strip("/") or 0)
        except ValueError:
            raise SettingsError(f"feature store {quoted(url)}: write redis://host:6379/0.") from None
        if parts.password:
            raise SettingsError("feature store: the URL holds a password, which logs would show; name a password_file.")
        if not parts.hostname or set(query) - {"password_file"}:
            raise SettingsError(
                f"feature store {quoted(url)}: write redis://user@host:6379/0?password_file=<path>, without user and "
                "password_file if it asks for none."
            )
        secret = _password(query.get("password_file", [""])[0])
        return cls(parts.hostname, port, database, parts.username, secret)

    def options(self, *, timeout: float) -> dict[str, Any]:
        """Return a client's arguments; `timeout` bounds connecting and each part of an answer, in seconds."""
        return {
            "host": self.host,
            "port": self.port,
            "db": self.database,
            "username": self.user,
            "password": self.password,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
        }


class RedisStore:
    """Read static features from Redis.

    No retry hides in the client library: with its defaults a read of a dead Redis took up to 8 seconds. After some
    failures in a row the breaker answers at once, until Redis gets its next chance.
    """

    def __init__(self, client: redis.asyncio.Redis, breaker: Breaker) -> None:
        self._client = client
        self._breaker = breaker
        self._generation, _ = present_of(None)

    @classmethod
    def open(cls, url: str) -> RedisStore:
        """Open `redis://host:6379/0`; the first read connects."""
        options = Address.parse(url).options(timeout=_SOCKET_TIMEOUT_S)
        return cls(redis.asyncio.Redis(**options, retry=AsyncRetry(NoBackoff(), 0)), Breaker())

    def supplies(self, features: FeatureSet) -> tuple[Feature, ...]:
        """Return all static features."""
        return features.static

    async def read(
        self, entities: Sequence[bytes], features: Sequence[Feature], *, timeout: float
    ) -> Mapping[str, Column]:
        """Read features for each entity in one round trip; in two when the generation has changed."""
        names = [feature.name for feature in features]
        with self._breaker.guard((redis.RedisError, OSError), timeout=timeout):
            async with asyncio.timeout(timeout):
                rows, filled = await self._rows(entities, names)
        if not filled and all(cell is None for row in rows for cell in row):
            raise FeaturesNotFilled
        return {feature.name: _column(feature, [row[index] for row in rows]) for index, feature in enumerate(features)}

    async def _rows(self, entities: Sequence[bytes], names: Sequence[str]) -> tuple[list[Any], bool]:
        while True:
            generation = self._generation
            pipeline = self._client.pipeline(transaction=False)
            for entity in entities:
                pipeline.hmget(key(generation, entity), names)
            pipeline.get(PRESENT)  # last: had this generation been replaced before, its rows could be gone
            *rows, present = await pipeline.execute()
            self._generation, watermark = present_of(present)
            if self._generation == generation:
                return rows, bool(watermark)

    async def close(self) -> None:
        """Close all connections."""
        await cast("Awaitable[None]", self._client.aclose())


def key(generation: bytes, entity: bytes) -> Any:
    """Return the key of an entity's hash; redis-py takes bytes, though its types say text."""
    return b"features:%b:%b" % (generation, entity)


def present_of(value: bytes | None) -> tuple[bytes, bytes]:
    """Return generation and watermark of a value of PRESENT; before the first materialization 0 and nothing."""
    generation, _, watermark = (value or b"0").partition(b" ")
    return generation, watermark


def _password(path: str) -> str | None:
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"feature store: password_file {quoted(path)} can't be read ({error.strerror}).") from None


def to_cells(feature: Feature, tensor: Tensor, times: Sequence[int]) -> list[bytes]:
    """Return one value per row as its bytes in the feature's datatype: what is read is what was written, to the bit."""
    if feature.datatype.holds_bytes:
        values = list(tensor)
    else:
        values = [row.tobytes() for row in np.ascontiguousarray(tensor, feature.datatype.dtype)]
    form = feature.form.encode() + b":"
    return [_TIME.pack(time) + form + value for time, value in zip(times, values, strict=True)]


def _column(feature: Feature, cells: Sequence[Any]) -> Column:
    form = feature.form.encode() + b":"
    for cell in cells:
        if cell is not None and not cell.startswith(form, _TIME.size):
            stored = bytes(cell[_TIME.size :]).partition(b":")[0]
            raise FeaturesOutdated.of(feature.name, stored.decode("utf-8", "backslashreplace"), feature.form)
    if feature.datatype.holds_bytes:
        start = _TIME.size + len(form)
        times = [0 if cell is None else _TIME.unpack_from(cell)[0] for cell in cells]
        return Column.of_cells(feature, [cell and cell[start:] for cell in cells], times)
    # All cells at once: row by row in Python, a batch of 64 took five times as long.
    kind = np.dtype([("time", "<i8"), ("form", f"S{len(form)}"), ("value", feature.datatype.dtype, feature.shape)])
    blank = bytes(kind.itemsize)
    records = np.frombuffer(b"".join(blank if cell is None else cell for cell in cells), kind)
    present = np.array([cell is not None for cell in cells], dtype=np.bool_)
    return Column(np.ascontiguousarray(records["value"]), present, records["time"].astype(np.int64))
