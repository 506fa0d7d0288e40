"""Fill the feature store with the static features of all entities: `make features`.

Writes only entities with records since the last run's watermark, which is stored with the rows; a run that was killed
can simply be repeated. The first run, a run after a changed declaration, and one with `--all` write every entity.
Readers see all of a run or nothing: rows and watermark become visible together. `--all` also removes the entities that
are not in the data.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import overload

import numpy as np
from tqdm import tqdm

from serving.adapters.feature_store import WRITERS
from serving.domain.errors import SettingsError, quoted
from serving.domain.features import FeatureSet
from serving.domain.ports import FeatureRows, FeatureWriter
from serving.domain.settings import shared_settings
from serving.modeling import History
from serving.offline import project, user_model
from serving.offline.predictions import forget

_AFTER_A_DELETION = (
    "running servers forget them at the next read; remove them from the data too, or `--all` brings them back"
)
_NEVER = np.iinfo(np.int64).min


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the new rows, all or none."""
    parser = argparse.ArgumentParser(prog="python -m serving.offline.materialize", description=__doc__)
    parser.add_argument("--all", action="store_true", help="write every entity, remove those not in the data")
    parser.add_argument(
        "--until", type=_moment, metavar="YYYY-MM-DD", help="leave out values known only after this day"
    )
    parser.add_argument("--delete", nargs="+", metavar="KEY", help="delete these entities, write nothing")
    options = parser.parse_args(arguments)
    url = shared_settings().store_url()
    features = user_model.features()
    if not features.static:
        print("model/features.py declares no static features: there is nothing to write")
        return 0
    if options.delete and (options.all or options.until is not None):
        parser.error("--delete goes without --all and --until")
    if options.delete:
        deleted = open_writer(url).delete([key.encode() for key in options.delete])
        print(f"deleted {deleted} of {len(options.delete)} entities{forget(options.delete)}; {_AFTER_A_DELETION}")
        return 0
    past = user_model.history()
    until = int(past.times.max(initial=0)) if options.until is None else options.until
    print(f"materializing {', '.join(feature.name for feature in features.static)} into {url} ...")
    print(materialize(past, features, open_writer(url), until=until, everything=options.all))
    return 0


def materialize(
    past: History, features: FeatureSet, writer: FeatureWriter, *, until: int, everything: bool = False
) -> str:
    """Write the newest row of each changed entity; return a summary.

    A late record, dated before the last watermark, needs `everything`.
    """
    since = _NEVER if everything else reached(writer.watermark(), features)
    rows = past.latest(since, until)
    if not len(rows):
        return f"nothing is new since {_day(since)}"
    columns = {feature.name: feature.tensor(past.columns[feature.name][rows]) for feature in features.static}
    for feature in features.static:
        feature.spec.check_values(columns[feature.name])
    # Not `until` itself: a later record may be dated before it.
    mark = f"{_fingerprint(features)} {max(since, int(past.times[rows].max()))}"
    entities = _Watched([past.entities[row].encode() for row in rows])
    writer.write(FeatureRows(features.static, entities, columns, past.times[rows], mark), replace=everything)
    return f"wrote {len(rows)} rows, keyed by {features.entity.name}"


class _Watched(Sequence[bytes]):
    """A sequence that shows a progress bar while iterated, in a terminal only."""

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


def reached(watermark: str, features: FeatureSet) -> int:
    """Return the time up to which the last run wrote; _NEVER if the declaration has changed since."""
    fingerprint, _, until = watermark.partition(" ")
    return int(until) if fingerprint == _fingerprint(features) else _NEVER


def _fingerprint(features: FeatureSet) -> str:
    declared = "\n".join(f"{feature.name} {feature.form}" for feature in features.static)
    return hashlib.sha256(declared.encode()).hexdigest()[:16]


def _moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def _day(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}" if moment > 0 else "the beginning"


if __name__ == "__main__":
    project.run(main)
