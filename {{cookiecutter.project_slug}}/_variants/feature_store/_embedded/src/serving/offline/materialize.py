"""Fill the feature store with the static features of all entities: `make features`.

Writes only the entities that have something new since the last time; how far that reached is kept with the rows, so a
run that is killed is simply run again. The first run, one after a change of the declaration, and one with `--all` write
every entity. No reader sees half of it: the rows and the mark become visible together.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import overload

import numpy as np
from tqdm import tqdm

from model.data import history
from model.features import FEATURES
from model.history import History
from serving.adapters.feature_store import WRITERS
from serving.domain.errors import SettingsError, quoted
from serving.domain.ports import FeatureRows, FeatureWriter
from serving.domain.settings import shared_settings
from serving.offline import project

_NEVER = np.iinfo(np.int64).min


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the rows that are new, all or none."""
    parser = argparse.ArgumentParser(prog="python -m serving.offline.materialize", description=__doc__)
    parser.add_argument("--all", action="store_true", help="write every entity, also what has not changed")
    parser.add_argument("--until", type=_moment, metavar="YYYY-MM-DD", help="leave out what is known only later")
    options = parser.parse_args(arguments)
    url = shared_settings().feature_store
    past = history()
    until = int(past.times.max(initial=0)) if options.until is None else options.until
    print(f"materializing {', '.join(feature.name for feature in FEATURES.static)} into {url} ...")
    print(materialize(past, open_writer(url), until=until, everything=options.all))
    return 0


def materialize(past: History, writer: FeatureWriter, *, until: int, everything: bool = False) -> str:
    """Write each changed entity's newest row; return what was done, in a sentence.

    A record that comes in late, dated before the last run's mark, needs `everything`.
    """
    since = _NEVER if everything else reached(writer.watermark())
    rows = past.latest(since, until)
    if not len(rows):
        return f"nothing is new since {_day(since)}"
    columns = {feature.name: past.columns[feature.name][rows] for feature in FEATURES.static}
    for feature in FEATURES.static:
        feature.spec.check_values(columns[feature.name])
    # Not `until` itself: what comes in later may be dated before it.
    mark = f"{_fingerprint()} {max(since, int(past.times[rows].max()))}"
    entities = _Watched([past.entities[row].encode() for row in rows])
    count = writer.write(FeatureRows(FEATURES.static, entities, columns, past.times[rows], mark))
    return f"wrote {len(rows)} rows; the store holds {count} rows, keyed by {FEATURES.entity.name}"


class _Watched(Sequence[bytes]):
    """Show a progress bar while it is gone through; nothing where nobody watches."""

    def __init__(self, entities: list[bytes]) -> None:
        self._entities = entities

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        return self._entities[index]

    def __len__(self) -> int:
        return len(self._entities)

    def __iter__(self) -> Iterator[bytes]:
        return iter(tqdm(self._entities, unit="row", disable=None))


def open_writer(url: str) -> FeatureWriter:
    """Open the store at a URL for writing.

    :raises SettingsError: this repo has no such store
    """
    scheme = url.partition(":")[0]
    if scheme not in WRITERS:
        raise SettingsError(f"SERVING_FEATURE_STORE={quoted(url)}: this repo can fill {', '.join(WRITERS)}.")
    return WRITERS[scheme](url)


def reached(watermark: str) -> int:
    """Return how far the last run reached; never, if it wrote features as they are declared no longer."""
    fingerprint, _, until = watermark.partition(" ")
    return int(until) if fingerprint == _fingerprint() else _NEVER


def _fingerprint() -> str:
    declared = "\n".join(f"{feature.name} {feature.form}" for feature in FEATURES.static)
    return hashlib.sha256(declared.encode()).hexdigest()[:16]


def _moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def _day(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}" if moment > 0 else "the beginning"


if __name__ == "__main__":
    project.run(main)
