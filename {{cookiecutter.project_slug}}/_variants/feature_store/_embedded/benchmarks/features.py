"""Measure the cost of static features: sent by the caller, read from the store, or computed per request.

    python -m benchmarks.features

The last one is the mistake: all records of each entity are queried by an indexed key and its features taken from them,
within the call. Here they lie in this process's memory, which no service has, and hold the finished features: it is the
mistake at its cheapest. It grows with the past of an entity, which a look-up does not. All ways end in the same model
inputs, and are measured in turn in one process. Compare their differences; milliseconds depend on the machine. The
store is the one that SERVING_FEATURE_STORE names.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np

from model.features import FEATURES
from serving.adapters.feature_store import READERS
from serving.domain.deadline import Deadline
from serving.domain.features import Feature, FeatureSet
from serving.domain.no_store import NoStore
from serving.domain.ports import Column, FeatureStore
from serving.domain.tensors import Tensors
from serving.modeling import History
from serving.offline import project, user_model
from serving.offline.materialize import materialize, open_writer
from serving.online.settings import load_settings
from serving.online.telemetry import Metrics
from serving.prediction.enrichment import Enricher
from serving.prediction.fallback import Fallback

ROWS = (1, 64)
COPIES = (1, 50)
"""Copies of each raw record, for entities with a short and a long history."""
_TIMEOUT_S = 5.0


class Computed:
    """Query all records of each entity and take its features from them, on every call: the mistake."""

    def __init__(self, copies: int) -> None:
        """Lay the records into a database in memory, indexed by key, each repeated `copies` times."""
        self._history = user_model.history()
        self._database = sqlite3.connect(":memory:")
        self._database.execute("CREATE TABLE records (entity, number)")
        rows = [(entity, number) for number, entity in enumerate(self._history.entities)]
        self._database.executemany("INSERT INTO records VALUES (?, ?)", rows * copies)
        self._database.execute("CREATE INDEX by_entity ON records (entity)")

    def supplies(self, features: FeatureSet) -> tuple[Feature, ...]:
        """Return all static features."""
        return features.static

    async def read(
        self, entities: Sequence[bytes], features: Sequence[Feature], *, timeout: float
    ) -> Mapping[str, Column]:
        """Compute the features of each entity from all of its records."""
        keys = [entity.decode() for entity in entities]
        marks = ", ".join("?" * len(keys))
        query = f"SELECT entity, number FROM records WHERE entity IN ({marks})"  # noqa: S608 - marks only
        names, numbers = zip(*self._database.execute(query, keys).fetchall(), strict=True)
        found = np.array(numbers)
        times = self._history.times[found]
        past = History(names, times, {f.name: self._history.columns[f.name][found] for f in features})
        rows = past.as_of(keys, np.full(len(keys), times.max()))
        present = np.ones(len(keys), np.bool_)
        return {f.name: Column(past.columns[f.name][rows], present, times[rows]) for f in features}

    async def close(self) -> None:
        """Close the database."""
        self._database.close()


async def measure(store: FeatureStore, rows: int, seconds: float) -> list[float]:
    """Return the seconds that each call took to get from the request to the model's inputs."""
    data = user_model.dataset()
    enricher = Enricher(store, FEATURES, Metrics.create(), timeout=_TIMEOUT_S, unknown_entity=Fallback.REFUSE)
    supplied = store.supplies(FEATURES)
    took: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        chosen = np.arange(len(took), len(took) + rows) % len(data)
        request: Tensors = {
            f.name: f.tensor(data.columns[f.name][chosen]) for f in FEATURES.model_inputs if f not in supplied
        }
        keys = np.array([data.entities[row].encode() for row in chosen], object)
        start = time.perf_counter()
        await enricher.enrich({**request, FEATURES.entity.name: keys}, Deadline(_TIMEOUT_S))
        took.append(time.perf_counter() - start)
    return took


async def table(url: str, seconds: float, rounds: int) -> None:
    """Measure all ways in turn, several times, and print medians."""
    past = user_model.history()
    each = len(past.times) // len(set(past.entities))
    ways: dict[str, FeatureStore] = {
        "sent by the caller": NoStore(),
        f"read from {url.partition(':')[0]}": READERS[url.partition(":")[0]](url),
        **{f"computed from {each * copies} records": Computed(copies) for copies in COPIES},
    }
    print(f"{rounds} rounds of {seconds} s, medians")
    print(f"{'rows':>4}  {'static features':26} {'p50 ms':>8} {'p99 ms':>8}  added p50 ms")
    for rows in ROWS:
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, store in ways.items():
                cuts = statistics.quantiles(await measure(store, rows, seconds), n=100)
                figures[name].append((cuts[49] * 1e3, cuts[98] * 1e3))
        floor = 0.0
        for name, measured in figures.items():
            p50, p99 = (statistics.median(side) for side in zip(*measured, strict=True))
            floor = floor or p50
            print(f"{rows:>4}  {name:26} {p50:>8.3f} {p99:>8.3f}  {p50 - floor:>12.3f}")
    for store in ways.values():
        await store.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the store with what is new, measure, print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    options = parser.parse_args(arguments)
    url = load_settings().store_url()
    past = user_model.history()
    materialize(past, FEATURES, open_writer(url), until=int(past.times.max()))
    asyncio.run(table(url, options.seconds, options.rounds))
    return 0


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(lambda: main(sys.argv[1:]))
