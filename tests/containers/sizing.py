"""Compare what `make sizing` says with what two and four replicas do together: `python -m tests.containers.sizing`.

It says which share of its core a replica uses for a load. Each replica has a part of a core here, so that four and the
load fit on this machine; the load is in proportion. The CPU that they use is compared, which other work on the machine
changes little, and whether they answer all calls.
"""

from __future__ import annotations

import json
import time

from tests.containers.fleet import SHARE, Fleet, new_fleet
from tests.support import Repo, run

SECONDS = 40.0
PLANNED = 0.65
"""The share of a core that `make sizing` plans."""


def main() -> None:
    """Measure and print a table."""
    with new_fleet() as (repo, fleet, _):
        compare(repo, fleet)


def compare(repo: Repo, fleet: Fleet) -> None:
    """Measure one replica with the bench, then two and four."""
    bench = ["python3", "tools/tasks.py", "bench", "--callers", "1", "4", "16", "64", "--rows", "1"]
    done = run(bench, cwd=repo.path)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    print(run(["python3", "tools/tasks.py", "sizing"], cwd=repo.path).stdout)
    figures = json.loads(repo.text("build/bench/figures.json"))
    cost = max(point["ours"]["cpu"] for point in figures["by_callers"])
    print("replicas  calls/s  planned  used")
    for replicas in (2, 4):
        fleet.resize(replicas)
        rate = replicas * SHARE * PLANNED / cost
        with fleet.load([(SECONDS, rate, rate)]) as lines:
            fleet.measure()
            time.sleep(SECONDS - 5)
            used, _ = fleet.measure()
        print(f"{replicas:>8} {rate:>8.0f} {PLANNED:>8.0%} {used:>5.0%} ", lines[-2].strip())


if __name__ == "__main__":
    main()
