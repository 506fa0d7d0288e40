"""Lock the requirements of the template, of the generated repo, and of every choice: `make lock`.

What every repo has is resolved first, all together. Then each choice is resolved against that, so that no choice holds
a repo back that did not choose it. A choice that can't live with those pins is resolved together with them, and what
it needs otherwise goes into `requirements/overrides/` of its folder: its repos install that instead.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.resolve import follow, hashed, lock_of, lock_together, pins, resolve

ROOT = Path(__file__).resolve().parent.parent
GENERATED = ROOT / "{{cookiecutter.project_slug}}"
VARIANTS = GENERATED / "_variants"
PEERS = ROOT / "tests" / "peers" / "requirements"
BENCHMARKS = ROOT / "benchmarks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Lock all files; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.lock", description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take newer versions (default: keep the pins)")
    options = parser.parse_args(arguments)
    try:
        lock(upgrade=options.upgrade)
    except subprocess.CalledProcessError as error:
        print(f"{error.stderr}error: uv could not resolve the requirements, for the reason above.", file=sys.stderr)
        return int(error.returncode)
    return 0


def lock(*, upgrade: bool) -> None:
    """Write every lock, and give the hooks of both repos the same versions.

    :raises subprocess.CalledProcessError: no set of versions fits, or the package index can't be reached
    """
    own, in_every_repo = sorted(ROOT.glob("requirements/*.in")), sorted(GENERATED.glob("requirements/*.in"))
    choices = sorted([*VARIANTS.glob("*/*/requirements/*.in"), *VARIANTS.glob("*/*/model/requirements.in")])
    locked = lock_together([*own, *in_every_repo], upgrade=upgrade)
    for repo in (ROOT, GENERATED):
        follow(repo / ".pre-commit-config.yaml", locked)
    fitting: list[Path] = []
    for choice in choices:
        beside = pins_of([*in_every_repo, *others(choice, fitting)])
        with contextlib.suppress(subprocess.CalledProcessError):
            lock_together([choice], upgrade=upgrade, constraints=beside)
            fitting.append(choice)
    for choice in [choice for choice in choices if choice not in fitting]:
        print(f"resolving {choice.relative_to(VARIANTS)} separately ...", flush=True)
        neighbours = [*in_every_repo, *others(choice, choices)]
        beside = pins_of(neighbours)
        together = resolve([*neighbours, choice], prefer=beside)
        lock_together([choice], upgrade=upgrade, constraints=together)
        override(choice, together, beside)
    for image in sorted(VARIANTS.glob("*/*/*/requirements/*.in")):
        lock_together([image], upgrade=upgrade)
    lock_peers(upgrade=upgrade)
    lock_benchmarks(locked, upgrade=upgrade)


def lock_peers(*, upgrade: bool) -> None:
    """Lock the servers that imports are compared with; they open what the environment of the import opens."""
    opening = GENERATED / "requirements" / "import.in"
    server = VARIANTS / "model_registry" / "mlflow" / "mlflow-server" / "requirements" / "server.in"
    lock_together([PEERS / "mlserver.in"], upgrade=upgrade, constraints=pins_of([opening]))
    models = PEERS / "mlflow_models.in"
    both = [pin for pin in pins_of([opening, server]) if pin.startswith(("numpy=", "scipy=", "xgboost-cpu="))]
    lock_together([models], upgrade=upgrade, constraints=both)
    runtime = PEERS / "mlserver_xgboost.in"
    runtime.with_suffix(".txt").write_text(hashed([runtime], no_deps=True), encoding="utf-8", newline="\n")


def lock_benchmarks(beside: Sequence[str], *, upgrade: bool) -> None:
    """Lock what the benchmarks run with, and each measured peer; all fit their models with one scikit-learn."""
    for source in sorted(BENCHMARKS.glob("requirements/*.in")):
        lock_together([source], upgrade=upgrade, constraints=beside)
    learning = [pin for pin in beside if name_of(pin) == "scikit-learn"]
    for peer in sorted(BENCHMARKS.glob("peers/*/requirements/*.in")):
        lock_together([peer], upgrade=upgrade, constraints=learning)


def override(choice: Path, needed: Sequence[str], beside: Sequence[str]) -> None:
    """Write the versions that a choice needs in place of those in the locks beside which it is installed."""
    mine, theirs = versions(needed), versions(beside)
    differing = [pin for pin in needed if mine[name_of(pin)] != theirs.get(name_of(pin), mine[name_of(pin)])]
    target = choice.parent / "overrides" / f"{choice.stem}.txt"
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "differing.in")
        source.write_text("\n".join(differing), encoding="utf-8")
        target.write_text(hashed([source], no_deps=True), encoding="utf-8", newline="\n")
    print(f"wrote {target.relative_to(choice.parent.parent)}: {', '.join(differing)}", flush=True)


def others(choice: Path, choices: Sequence[Path]) -> list[Path]:
    """Return the sources that a repo can have beside this one: those of other questions, and of the same choice."""
    question, answer = choice.relative_to(VARIANTS).parts[:2]
    asked = {other: other.relative_to(VARIANTS).parts for other in choices if other != choice}
    return [other for other, parts in asked.items() if parts[0] != question or parts[1] == answer]


def pins_of(sources: Sequence[Path]) -> list[str]:
    """Return the pins in the locks of these sources."""
    return pins(lock_of(source) for source in sources)


def versions(found: Sequence[str]) -> dict[str, set[str]]:
    """Return the versions of each package, whatever their markers."""
    numbers: dict[str, set[str]] = {}
    for pin in found:
        numbers.setdefault(name_of(pin), set()).add(pin.partition("==")[2].partition(" ")[0])
    return numbers


def name_of(pin: str) -> str:
    """Return the package that a pin is of."""
    return pin.partition("==")[0]


if __name__ == "__main__":
    sys.exit(main())
