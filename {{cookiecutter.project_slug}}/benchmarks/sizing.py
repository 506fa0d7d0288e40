"""How many replicas a load needs, from your own figures: `make sizing`, after `make bench`.

A replica is one process and uses at most one core, so the CPU seconds of a call say how many calls a second it answers.
They are taken where they are highest among the measured numbers of callers. Planned is the share UTILIZATION of a core.

Not taken: the calls per second of the bench. Its load generator ran on the same cores as the server.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.domain.errors import OperatorError
from serving.offline import project

FIGURES = project.ROOT / "build" / "bench" / "figures.json"
UTILIZATION = 0.65
RATES = (100, 1_000, 10_000, 100_000)
MEMORY_MIB = 512
"""The limit of one replica, in compose/base.yaml."""

_LEAST = 2
"""With one replica, every restart is an outage."""


@dataclass(frozen=True)
class Size:
    """Hold what a load needs: calls per second, replicas, and the share of their capacity that it uses."""

    rate: float
    replicas: int
    used: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of loads, or the answer for one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--rate", type=float, nargs="+", default=RATES, help="calls per second at the peak")
    rates = parser.parse_args(arguments).rate
    for rate in rates:
        if not 0 < rate < math.inf:
            parser.error(f"--rate {rate:g}: must be a number of calls per second above 0")
    cost = cost_of(read(FIGURES))
    print(f"a call of one row takes {cost * 1e6:,.0f} us of CPU; a replica answers at most {1 / cost:,.0f} a second")
    print("\n calls/s  replicas  cores  memory MiB  used")
    for rate in rates:
        needed = size(rate, cost)
        memory = needed.replicas * MEMORY_MIB
        print(f"{rate:>8,.0f} {needed.replicas:>9,} {needed.replicas:>6,} {memory:>11,} {needed.used:>5.0%}")
    print(f"\nplanned for {UTILIZATION:.0%} of a core, and at least {_LEAST} replicas")
    return 0


def read(path: Path) -> Mapping[str, Any]:
    """Return the figures of the bench.

    :raises OperatorError: there are none, or none that this can read
    """
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(figures, dict) and figures["by_callers"]:
            return figures
    except FileNotFoundError:
        raise OperatorError(f"{_name(path)} does not exist; run `make bench` first.") from None
    except (OSError, ValueError, KeyError):
        pass
    raise OperatorError(f"{_name(path)} can't be read; run `make bench` again.")


def cost_of(figures: Mapping[str, Any]) -> float:
    """Return the CPU seconds of one call, at the number of callers where it is dearest.

    :raises OperatorError: the figures have no CPU time
    """
    costs = [float(point["ours"]["cpu"]) for point in figures["by_callers"]]
    if not all(cost > 0 for cost in costs):
        raise OperatorError("the figures have no CPU time, which only Linux gives; run `make bench` there.")
    return max(costs)


def size(rate: float, cost: float) -> Size:
    """Return what `rate` calls per second need, at `cost` CPU seconds a call."""
    replicas = max(_LEAST, math.ceil(rate * cost / UTILIZATION))
    return Size(rate, replicas, rate * cost / replicas)


def _name(path: Path) -> str:
    return str(path.relative_to(project.ROOT)) if path.is_relative_to(project.ROOT) else str(path)


if __name__ == "__main__":
    project.run(main)
