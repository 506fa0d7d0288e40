"""Lock requirements/*.in and model/requirements.in: `make lock`, with newer versions `make lock ARGS=--upgrade`.

One resolution pins all files, so that any set of locks installs together. A separate image, such as a registry's
server, is resolved alone.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.resolve import follow, lock_together

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Lock all files; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.lock", description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take newer versions (default: keep the pins)")
    options = parser.parse_args(arguments)
    try:
        sources = [ROOT / "model" / "requirements.in", *sorted(ROOT.glob("requirements/*.in"))]
        locked = lock_together(sources, upgrade=options.upgrade)
        for source in sorted(ROOT.glob("*/requirements/*.in")):
            lock_together([source], upgrade=options.upgrade)
    except subprocess.CalledProcessError as error:
        print(f"{error.stderr}error: uv could not resolve the requirements, for the reason above.", file=sys.stderr)
        return int(error.returncode)
    # Overrides are for files that were resolved separately.
    shutil.rmtree(ROOT / "requirements" / "overrides", ignore_errors=True)
    follow(ROOT / ".pre-commit-config.yaml", locked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
