"""What was measured in all rounds, and its medians."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.peers.calls import Load
from benchmarks.peers.catalog import Contender
from benchmarks.peers.results import Figures, Row, Server

Cell = tuple[str, str, str, int]
"""Server, endpoint, model and number of callers."""


@dataclass
class Measured:
    """Hold every measurement: by cell, one for each round in which it succeeded."""

    loads: dict[Cell, dict[int, tuple[Load, float]]] = field(default_factory=lambda: defaultdict(dict))
    """By round: what the load generator saw, and the microseconds of CPU per call."""
    ready: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[str, list[tuple[str, int, str]]] = field(default_factory=lambda: defaultdict(list))
    """By server: the model, the round and the sentence."""
    others: list[float] = field(default_factory=list)

    def hopeless(self, name: str, model: str) -> bool:
        """Return whether a server has failed with a model, and never succeeded."""
        failed = any(model == each for each, _, _ in self.faults[name])
        return failed and not any(cell[0] == name and cell[2] == model for cell in self.loads)


def rows_of(measured: Measured, contenders: Sequence[Contender], base: Contender, ours: Sequence[str]) -> list[Row]:
    """Return the medians of every endpoint; ratios are those of the same round."""
    rows: list[Row] = []
    for contender in contenders:
        for endpoint in contender.endpoints:
            row = next((row for row in rows if (row.server, row.endpoint) == (contender.title, endpoint.title)), None)
            if row is None:
                row = Row(contender.title, endpoint.title, endpoint.transport, contender.name in ours)
                rows.append(row)
            for (name, title, model, callers), found in measured.loads.items():
                if (name, title) == (contender.name, endpoint.title):
                    yardstick = measured.loads[base.name, base.endpoints[0].title, model, callers]
                    row.figures.setdefault(model, {})[callers] = _median(found, yardstick)
    return [row for row in rows if row.figures]


def _median(found: dict[int, tuple[Load, float]], base: dict[int, tuple[Load, float]]) -> Figures:
    loads = [load for load, _ in found.values()]
    return Figures(
        p50=statistics.median(load.p50 for load in loads),
        p99=statistics.median(load.p99 for load in loads),
        rate=statistics.median(load.rate for load in loads),
        cpu=statistics.median(cpu for _, cpu in found.values()),
        ratio=_median_of([base[number][0].rate / load.rate for number, (load, _) in found.items() if number in base]),
        failed=sum(load.failed for load in loads),
    )


def servers_of(measured: Measured, contenders: Sequence[Contender]) -> list[Server]:
    """Return what was measured of each server beside the load."""
    return [
        Server(
            contender.title,
            contender.note,
            _median_of(measured.ready[contender.name]),
            _median_of(measured.memory[contender.name]),
            [f"{model}, round {number + 1}: {text}" for model, number, text in measured.faults[contender.name]],
        )
        for contender in contenders
    ]


def _median_of(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")
