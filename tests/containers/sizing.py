"""Compare what `make sizing` says with what two and four replicas do together: `python -m tests.containers.sizing`.

Each replica has a part of a core here, so that four and the load fit on this machine. They get the load that one
replica is planned for, times their number: the CPU that they use is compared with what was planned, and they answer all
calls or not. The bench runs before each, since what a call costs here changes with what else the machine does.
"""

from __future__ import annotations

import time

from tests.containers.fleet import SHARE, Fleet, new_fleet
from tests.support import Repo, run

SECONDS = 40.0
UTILIZATION = 0.65
"""The share of a replica's CPU that `make sizing` plans."""


def main() -> None:
    """Measure and print a table."""
    with new_fleet() as (repo, fleet, _):
        compare(repo, fleet)


def compare(repo: Repo, fleet: Fleet) -> None:
    """Measure one replica with the bench, then two; again, then four."""
    rows = []
    for replicas in (2, 4):
        fleet.resize(0)
        fleet.join()
        rate = replicas * planned(repo)
        fleet.resize(replicas)
        with fleet.load([(SECONDS, rate, rate)]) as lines:
            fleet.measure()
            time.sleep(SECONDS - 5)
            used, _ = fleet.measure()
        rows.append(f"{replicas:>8} {rate:>8.0f} {UTILIZATION:>8.0%} {used:>5.0%}  {lines[-2].strip()}")
    print("replicas  calls/s  planned  used", *rows, sep="\n")


def planned(repo: Repo) -> float:
    """Run the bench and the sizing; return the calls per second that a replica of SHARE is planned for."""
    bench = ["python3", "tools/tasks.py", "bench", "--callers", "1", "4", "16", "64", "--rows", "1"]
    sizing = ["python3", "tools/tasks.py", "sizing", "--cores", str(SHARE)]
    for command in (bench, sizing):
        done = run(command, cwd=repo.path)
        assert done.returncode == 0, done.stderr
        print(done.stdout)
    return float(done.stdout.partition("planned for ")[2].split()[0].replace(",", ""))


if __name__ == "__main__":
    main()
