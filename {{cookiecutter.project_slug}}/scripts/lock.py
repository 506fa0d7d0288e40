"""Lock requirement files: `make lock`, with newer versions `make lock ARGS=--upgrade`.

One resolution decides the version of everything that any of the files needs, for Python 3.11 to 3.13 on every
platform; then each file gets a lock of its own beside it. So any set of the locks installs together. The locks hold
hashes and no address: they work behind any mirror of the package index.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

OLDEST_PYTHON = "3.11"
_FORM = ("--universal", "--python-version", OLDEST_PYTHON, "--no-annotate", "--no-header", "--no-emit-index-url")


def main(arguments: Sequence[str] | None = None) -> int:
    """Lock the files that are named, or all of this repo; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.lock", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="requirement files (*.in); none: all of this repo")
    parser.add_argument("--upgrade", action="store_true", help="take newer versions; without it pins stay")
    options = parser.parse_args(arguments)
    root = Path(__file__).resolve().parent.parent
    sources = options.files or sorted([*root.glob("requirements/*.in"), *root.glob("*/requirements/*.in")])
    try:
        lock(sources, upgrade=options.upgrade)
    except subprocess.CalledProcessError as error:
        print("error: uv could not resolve the requirements; no lock was changed.", file=sys.stderr)
        return int(error.returncode)
    return 0


def lock(sources: Sequence[Path], *, upgrade: bool) -> None:
    """Resolve all sources together, then write the lock of each.

    :raises subprocess.CalledProcessError: no set of versions fits, or the package index can't be reached
    """
    locks = [source.with_suffix(".txt") for source in sources]
    with tempfile.TemporaryDirectory() as folder:
        together = Path(folder, "together.txt")
        # What uv finds in its output file, it keeps.
        together.write_text("" if upgrade else "\n".join(pins(locks)), encoding="utf-8")
        print(f"resolving {len(sources)} files together ...")
        _compile(sources, together)
        drafts = []
        for number, source in enumerate(sources):
            drafts.append(Path(folder, f"{number}.txt"))
            _compile([source], drafts[-1], "--generate-hashes", "--constraints", str(together))
        for draft, target in zip(drafts, locks, strict=True):
            target.write_bytes(draft.read_bytes())
            print(f"wrote {target.parent.name}/{target.name}")
    for repo in sorted({source.resolve().parent.parent for source in sources}):
        _follow(repo / ".pre-commit-config.yaml", pins(locks))


def pins(locks: Iterable[Path]) -> list[str]:
    """Return each pin (`name==version ; marker`) of these locks once, without its hashes."""
    lines = [line for lock in locks if lock.exists() for line in lock.read_text(encoding="utf-8").splitlines()]
    return sorted({line.removesuffix("\\").rstrip() for line in lines if line and not line.startswith((" ", "#"))})


def _follow(hooks: Path, locked: Iterable[str]) -> None:
    """Give each hook the version that is locked: a hook and `make check` are to agree."""
    if not hooks.exists():
        return
    versions = dict(pin.partition(" ")[0].split("==") for pin in locked)
    text = hooks.read_text(encoding="utf-8")
    for name in set(re.findall(r"([\w.-]+)==", text)):
        text = re.sub(rf"\b{re.escape(name)}==[\w.]+", f"{name}=={versions[name]}", text)
    hooks.write_text(text, encoding="utf-8", newline="\n")


def _compile(sources: Sequence[Path], target: Path, *options: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *_FORM, *options, "--output-file", str(target)]
    # A configuration on this machine must not leak into a file that everyone gets.
    environment = os.environ | {"UV_NO_CONFIG": "1"}
    subprocess.run([*command, *map(str, sources)], check=True, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
