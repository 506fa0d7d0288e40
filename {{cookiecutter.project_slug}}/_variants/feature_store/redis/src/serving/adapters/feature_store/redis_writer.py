"""Fill the feature store in Redis.

A write of up to CHUNK rows is one transaction in the present generation. A larger one, and one that replaces all, makes
the next generation in chunks and then names it as the present one: readers wait for no chunk, and see all of it or
nothing. Meanwhile small writes and deletions go to both generations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from time import monotonic
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from serving.adapters.feature_store.redis import PRESENT, Address, key, present_of, to_cells
from serving.domain.errors import FeatureStoreUnavailable
from serving.domain.ports import FeatureRows

CHUNK = 1000
_LAST = b"features-last"
"""Counts generations."""
_NEXT = b"features-next"
"""Names the generation that is being made; its writer renews it, so it outlives a killed one by RENEWED_FOR_S."""
_DELETED = b"features-deleted"
"""Holds the entities deleted while a generation is being made."""
RENEWED_FOR_S = 60
_RENEW_AFTER_S = 10.0
_TIMEOUT_S = 5.0
_ATTEMPTS = 100
"""How often a small write is tried; each failure means that another writer was faster."""

_OVERTAKEN = "another run fills the feature store; repeat this one when that has ended."


class RedisWriter:
    """Fill Redis with static features; blocking, for batch jobs."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    @classmethod
    def open(cls, url: str) -> RedisWriter:
        """Open `redis://host:6379/0`; the first write connects."""
        options = Address.parse(url).options(timeout=_TIMEOUT_S)
        return cls(redis.Redis(**options, retry=Retry(NoBackoff(), 0)))

    def write(self, rows: FeatureRows, *, replace: bool = False) -> None:
        """Insert or replace one hash per entity, all or none; with `replace`, remove every other entity."""
        with _reported():
            if replace or len(rows.entities) > CHUNK:
                self._make_generation(rows, replace=replace)
            else:
                self._update(rows)

    def delete(self, entities: Sequence[bytes]) -> int:
        """Delete the hashes of these entities, in one transaction."""
        if not entities:
            return 0

        def delete(pipeline: Any, present: bytes, following: bytes | None) -> None:
            pipeline.delete(*(key(present, entity) for entity in entities))
            if following:
                pipeline.delete(*(key(following, entity) for entity in entities))
                pipeline.sadd(_DELETED, *entities)

        with _reported():
            return int(self._transact(delete)[0])

    def watermark(self) -> str:
        """Return the watermark of the last write that had one; empty as well when Redis came back empty."""
        with _reported("read"):
            return present_of(self._get(PRESENT))[1].decode()

    def _update(self, rows: FeatureRows) -> None:
        hashes = [pair for chunk in _chunks(rows) for pair in chunk]

        def update(pipeline: Any, present: bytes, following: bytes | None) -> None:
            for entity, values in hashes:
                pipeline.hset(key(present, entity), mapping=values)
                if following:
                    pipeline.copy(key(present, entity), key(following, entity))  # its other features, unless there
                    pipeline.hset(key(following, entity), mapping=values)
                    pipeline.srem(_DELETED, entity)
            if rows.watermark:
                pipeline.set(PRESENT, b"%b %b" % (present, rows.watermark.encode()))

        self._transact(update)

    def _transact(self, change: Callable[[Any, bytes, bytes | None], None]) -> list[Any]:
        """Apply a change to the present generation, and to the next while it is being made; return the answers."""
        for _ in range(_ATTEMPTS):
            with self._watching(PRESENT, _NEXT) as pipeline:
                (present, _), following = present_of(pipeline.get(PRESENT)), pipeline.get(_NEXT)
                pipeline.multi()
                change(pipeline, present, following)
                return list(pipeline.execute())
        raise FeatureStoreUnavailable("other writers of the feature store were always faster; repeat this write.")

    def _make_generation(self, rows: FeatureRows, *, replace: bool) -> None:
        generation, present = self._begin()
        try:
            self._sweep(generation, present)  # what a killed writer left
            lease = _Lease(self._client, generation)
            for names in () if replace else self._scan(present):
                with lease.pipeline() as pipeline:
                    for name in names:
                        pipeline.copy(name, key(generation, _parts(name)[1]))
            for chunk in _chunks(rows):
                with lease.pipeline() as pipeline:
                    for entity, values in chunk:
                        pipeline.hset(key(generation, entity), mapping=values)
            self._name_present(generation, rows.watermark)
        except BaseException:
            with suppress(redis.RedisError, OSError):
                self._withdraw(generation)
            raise
        self._sweep(generation, generation)

    def _begin(self) -> tuple[bytes, bytes]:
        """Announce the next generation; return it and the present one."""
        generation = b"%d" % int(self._client.incr(_LAST))
        with self._watching(_NEXT) as pipeline:
            if not pipeline.exists(_NEXT):
                pipeline.multi()
                pipeline.set(_NEXT, generation, ex=RENEWED_FOR_S)
                pipeline.delete(_DELETED)
                pipeline.get(PRESENT)
                return generation, present_of(pipeline.execute()[-1])[0]
        raise FeatureStoreUnavailable(_OVERTAKEN)

    def _name_present(self, generation: bytes, watermark: str) -> None:
        """Make a generation the present one, without the entities that were deleted while it was made."""
        for _ in range(_ATTEMPTS):
            with self._watching(PRESENT, _NEXT, _DELETED) as pipeline:
                if pipeline.get(_NEXT) != generation:
                    break
                deleted = pipeline.smembers(_DELETED)
                watermark = watermark or present_of(pipeline.get(PRESENT))[1].decode()
                pipeline.multi()
                for entity in deleted:
                    pipeline.delete(key(generation, entity))
                pipeline.set(PRESENT, b"%b %b" % (generation, watermark.encode()))
                pipeline.delete(_NEXT, _DELETED)
                pipeline.execute()
                return
        raise FeatureStoreUnavailable(_OVERTAKEN)

    def _withdraw(self, generation: bytes) -> None:
        """Remove what there is of a generation, and let the next writer begin at once."""
        with self._watching(_NEXT) as pipeline:
            if pipeline.get(_NEXT) == generation:
                pipeline.multi()
                pipeline.delete(_NEXT, _DELETED)
                pipeline.execute()
        for names in self._scan(generation):
            self._client.delete(*names)

    def _sweep(self, generation: bytes, present: bytes) -> None:
        """Remove the rows of generations before this one, except the present one."""
        for names in self._scan(b"*"):
            found = {name: _parts(name)[0] for name in names}
            old = [name for name, of in found.items() if of != present and of.isdigit() and int(of) < int(generation)]
            if old:
                self._client.delete(*old)

    @contextmanager
    def _watching(self, *names: bytes) -> Iterator[Any]:
        """Yield a pipeline; its `execute` changes nothing and leaves the block if one of these keys has changed."""
        pipeline: Any = self._client.pipeline()
        with pipeline, suppress(redis.WatchError):
            pipeline.watch(*names)
            yield pipeline

    def _scan(self, generation: bytes) -> Iterator[list[bytes]]:
        found: Iterator[bytes] = self._client.scan_iter(match=key(generation, b"*"), count=CHUNK)
        while chunk := list(islice(found, CHUNK)):
            yield chunk

    def _get(self, name: bytes) -> bytes | None:
        value: Any = self._client.get(name)
        return value if value is None else bytes(value)


class _Lease:
    """Send chunks as long as this generation is the one that is being made."""

    def __init__(self, client: redis.Redis, generation: bytes) -> None:
        self._client, self._generation = client, generation
        self._renewed = monotonic()

    @contextmanager
    def pipeline(self) -> Iterator[Any]:
        """Send what the block adds, then look whether another writer has taken over."""
        pipeline: Any = self._client.pipeline(transaction=False)
        yield pipeline
        if monotonic() - self._renewed > _RENEW_AFTER_S:
            pipeline.expire(_NEXT, RENEWED_FOR_S)
            self._renewed = monotonic()
        pipeline.get(_NEXT)
        if pipeline.execute()[-1] != self._generation:
            raise FeatureStoreUnavailable(_OVERTAKEN)


@contextmanager
def _reported(done: str = "written") -> Iterator[None]:
    try:
        yield
    except redis.exceptions.OutOfMemoryError:
        raise FeatureStoreUnavailable(
            "the feature store is full: while a large write lasts, it holds the present rows and the next ones; raise "
            "maxmemory in config/redis.conf."
        ) from None
    except (redis.RedisError, OSError) as error:
        raise FeatureStoreUnavailable(f"the feature store can't be {done} ({type(error).__name__}).") from error


def _parts(name: bytes) -> tuple[bytes, bytes]:
    """Return the generation and the entity of a key."""
    _, generation, entity = name.split(b":", 2)
    return generation, entity


def _chunks(rows: FeatureRows) -> Iterator[list[tuple[bytes, Mapping[Any, bytes]]]]:
    """Yield the hash of each entity, by chunks."""
    dates, entities = rows.dates(), iter(rows.entities)
    for start in range(0, len(rows.entities), CHUNK):
        part = slice(start, start + CHUNK)
        cells = {
            feature.name: to_cells(feature, rows.columns[feature.name][part], dates[part]) for feature in rows.features
        }
        yield [
            (entity, {name: column[row] for name, column in cells.items()})
            for row, entity in enumerate(islice(entities, CHUNK))
        ]
