"""How long generating takes, beside the floor: what `cookiecutter --version` takes on the same machine.

The goal is at most twice the floor plus half a second.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 7


def main() -> int:
    """Print the medians; return 1 if the goal is missed."""
    floors, bakes = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            floors.append(_seconds("--version"))
            bakes.append(_seconds(str(ROOT), "--no-input", "--default-config", "--output-dir", folder))
    floor, bake = statistics.median(floors), statistics.median(bakes)
    goal = 2 * floor + 0.5
    print(f"cookiecutter --version {floor:.2f} s, generating {bake:.2f} s, goal {goal:.2f} s (medians of {ROUNDS})")
    return 0 if bake <= goal else 1


def _seconds(*words: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "cookiecutter", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
