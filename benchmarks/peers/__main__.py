"""Serve the same models with this template and with its peers, under the same load: `make peers`.

Each server runs alone, with one worker, beside the load generator h2load. Its answers are checked before and after the
load. The servers take turns, and the order is reversed every round. A whole run writes docs/peers.md, its plots and
benchmarks/peers/results.json; a run of some servers or some models only prints.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.peers import page, results
from benchmarks.peers.calls import PeerError, h2load_version
from benchmarks.peers.catalog import BUILD, Contender, installed, peers
from benchmarks.peers.estimators import fit
from benchmarks.peers.measure import run
from benchmarks.peers.medians import rows_of, servers_of
from benchmarks.peers.models import MODELS
from benchmarks.peers.ours import OURS
from benchmarks.peers.plot import draw
from benchmarks.peers.results import Results


def main() -> int:
    """Install, measure, write."""
    contenders: list[Contender] = [*OURS, *peers()]
    parser = argparse.ArgumentParser(prog="make peers ARGS=...", description=__doc__)
    names = [each.name for each in contenders]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"some of {', '.join(names)}")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="some of the models")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (default: %(default)s)")
    options = parser.parse_args()
    chosen = [each for each in contenders if not options.only or each.name in (OURS[0].name, *options.only)]
    try:
        generator = h2load_version()
        present, absent = installed(chosen, OURS[0])
        fit(BUILD / "models")
        measured = run(present, options.models, options.rounds, options.seconds, BUILD / "models")
        found = Results(
            date=datetime.now(UTC).date().isoformat(),
            machine=f"{machine()}, {generator}",
            rounds=options.rounds,
            seconds=options.seconds,
            others=statistics.mean(measured.others),
            servers=[*servers_of(measured, present), *absent],
            rows=rows_of(measured, present, OURS[0], [each.name for each in OURS]),
        )
    except PeerError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 1
    found = results.read(found.to_json())  # the numbers that are shown are those of the file
    print(page.tables(found))
    if not options.only and options.models == list(MODELS):
        results.FILE.write_text(found.to_json(), encoding="utf-8", newline="\n")
        for path in (results.FILE, page.write(found), *draw(found)):
            print(f"wrote {path}")
    return 0


def machine() -> str:
    """Describe this machine."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    system = platform.freedesktop_os_release()["PRETTY_NAME"] if sys.platform == "linux" else platform.platform()
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores ({model}), {memory:.0f} GiB, {system}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
