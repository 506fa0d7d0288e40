"""What one run measured, as JSON: `results.json` beside this file holds that of the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Figures:
    """Hold medians over the rounds: milliseconds, calls per second, microseconds of CPU per call, and failed calls.

    `ratio` is the calls per second of the first generated repo in the same round, divided by those of this server.
    """

    p50: float
    p99: float
    rate: float
    cpu: float
    ratio: float
    failed: int


@dataclass
class Row:
    """Hold what was measured of one endpoint of one server: figures by model, then by the number of callers."""

    server: str
    endpoint: str
    transport: str
    ours: bool
    figures: dict[str, dict[int, Figures]] = field(default_factory=dict)


@dataclass
class Server:
    """Hold what was measured of one server with the first model, and why the rest was not measured."""

    title: str
    note: str
    ready: float = float("nan")
    memory: float = float("nan")
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Results:
    """Hold one run; `others` is the number of cores that other processes took."""

    date: str
    machine: str
    rounds: int
    seconds: float
    others: float
    servers: Sequence[Server]
    rows: Sequence[Row]

    def to_json(self) -> str:
        """Return the text of the file; figures have three digits."""
        return json.dumps(_rounded(asdict(self)), indent=1) + "\n"


def read(text: str) -> Results:
    """Read the text of the file."""
    content = json.loads(text)
    servers = [Server(**_numbers(server)) for server in content.pop("servers")]
    rows = [Row(**row | {"figures": _figures(row["figures"])}) for row in content.pop("rows")]
    return Results(**content, servers=servers, rows=rows)


def _figures(found: Mapping[str, Any]) -> dict[str, dict[int, Figures]]:
    return {
        model: {int(callers): Figures(**_numbers(figures)) for callers, figures in cells.items()}
        for model, cells in found.items()
    }


def _numbers(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float("nan") if value is None else value for name, value in found.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if value == value else None
    return value
