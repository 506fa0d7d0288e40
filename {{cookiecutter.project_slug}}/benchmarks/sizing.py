"""How many replicas a load needs, from your own figures: `make sizing`, after `make bench`.

A replica is one process, so the CPU that its calls use says how many it answers. It is taken from calls sent by the
clock, at about the load that is planned: one that wakes a sleeping server costs more CPU than one of many in a row.
Planned is the share UTILIZATION of the CPU that a replica gets: of one core, or of `--cores`.

Not taken: the highest calls per second of the bench. Its load generator ran on the same cores as the server.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from serving.domain.errors import OperatorError
from serving.offline import project

FIGURES = project.ROOT / "build" / "bench" / "figures.json"
UTILIZATION = 0.65
RATES = (100, 1_000, 10_000, 100_000)
MEMORY_MIB = 512
"""The limit of one replica, in compose/base.yaml."""

_LEAST = 2
"""With one replica, every restart is an outage."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Replica:
    """Hold what one replica uses: cores at calls per second, both rising; read between and beyond them linearly."""

    rates: Sequence[float]
    cores: Sequence[float]

    def used(self, rate: float) -> float:
        """Return the cores that `rate` calls per second use."""
        return _read_off(rate, self.rates, self.cores)

    def rate(self, cores: float) -> float:
        """Return the calls per second that use `cores`."""
        return _read_off(cores, self.cores, self.rates)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of loads, or the answer for one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--rate", type=float, nargs="+", default=RATES, help="calls per second at the peak")
    parser.add_argument("--cores", type=float, default=1.0, help="CPU of one replica, as in requests of its pod")
    options = parser.parse_args(arguments)
    for rate in options.rate:
        if not 0 < rate < math.inf:
            parser.error(f"--rate {rate:g}: must be a number of calls per second above 0")
    if not 0 < options.cores <= 1:
        parser.error(f"--cores {options.cores:g}: must be above 0 and at most 1; a replica is one process")
    replica = replica_of(read(FIGURES))
    most = replica.rate(options.cores * UTILIZATION)
    cost = replica.used(most) / most
    print(f"a call of one row takes {cost * 1e6:,.0f} us of CPU; a replica is planned for {most:,.0f} a second")
    print("\n calls/s  replicas  cores  memory MiB  used")
    for rate in options.rate:
        replicas = count(rate, most)
        cores, memory = replicas * options.cores, replicas * MEMORY_MIB
        used = replica.used(rate / replicas) / options.cores
        print(f"{rate:>8,.0f} {replicas:>9,} {cores:>6,.4g} {memory:>11,} {used:>5.0%}")
    print(f"\nplanned for {UTILIZATION:.0%} of {options.cores:g} core, and at least {_LEAST} replicas")
    return 0


def read(path: Path) -> Mapping[str, Any]:
    """Return the figures of the bench.

    :raises OperatorError: there are none, or none that this can read
    """
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(figures, dict) and figures["by_clock"]:
            return figures
    except FileNotFoundError:
        raise OperatorError(f"{_name(path)} does not exist; run `make bench` first.") from None
    except (OSError, ValueError, KeyError):
        pass
    raise OperatorError(f"{_name(path)} can't be read; run `make bench` again.")


def replica_of(figures: Mapping[str, Any]) -> Replica:
    """Return what one replica uses by the figures.

    :raises OperatorError: the figures have no CPU time
    """
    points = sorted((float(point["rate"]), float(point["cpu"])) for point in figures["by_clock"])
    if not all(rate > 0 and cost > 0 for rate, cost in points):
        raise OperatorError("the figures have no CPU time, which only Linux gives; run `make bench` there.")
    # A higher load never uses less: where the figures say so, it is their noise.
    cores = list(accumulate((rate * cost for rate, cost in points), max))
    return Replica([0.0, *(rate for rate, _ in points)], [0.0, *cores])


def count(rate: float, most: float) -> int:
    """Return the replicas for `rate` calls per second, if one answers at most `most`."""
    return max(_LEAST, math.ceil(rate / most - _ROUNDING))


def _read_off(at: float, points: Sequence[float], values: Sequence[float]) -> float:
    if at > points[-1]:
        return at * values[-1] / points[-1]
    return float(np.interp(at, points, values))


def _name(path: Path) -> str:
    return str(path.relative_to(project.ROOT)) if path.is_relative_to(project.ROOT) else str(path)


if __name__ == "__main__":
    project.run(main)
