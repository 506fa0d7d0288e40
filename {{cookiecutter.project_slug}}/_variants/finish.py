"""Finish a generated repo: lay the chosen variants over it and print the next steps.

The template's hook runs this. Without hooks, run it by hand: `python3 _variants/finish.py`. It removes its own folder.
Needs only the standard library, no network and no git. The answers are read as data from `.answers.json`.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

ANSWERS = ".answers.json"
VARIANTS = "_variants"
# Files of a variant that are read, not laid: the variant it extends, and its next steps.
EXTENDS = "_extends"
NEXT_STEPS = "_next_steps"
# Folder of a variant with what it adds beside choices of other axes: `_with/<axis>/<choice>/`.
WITH = "_with"
# Lines with this text, in these files, say that the repo is unfinished.
NOTICE = "until finished"
NOTICED = ("README.md", "tools/tasks.py")


class LayingError(Exception):
    """A variant that can't be laid; the text says which one and why."""


def finish(root: Path) -> list[str]:
    """Lay every chosen variant over `root`, then remove all variants and the notices that they are missing.

    Return the next steps of the chosen variants.

    :raises LayingError: a choice has no folder, or brings a file that already exists
    """
    answers = json.loads((root / ANSWERS).read_text(encoding="utf-8"))["cookiecutter"]
    variants = root / VARIANTS
    steps: list[str] = []
    for axis in sorted(folder.name for folder in variants.iterdir() if folder.is_dir()):
        for folder in chain(variants / axis / answers[axis]):
            move(folder, root)
            for other in sorted(path.name for path in (folder / WITH).glob("*")):
                for beside in chain(variants / other / answers[other]):
                    move(folder / WITH / other / beside.name, root)
            said = folder / NEXT_STEPS
            steps += said.read_text(encoding="utf-8").splitlines() if said.exists() else []
    for path in NOTICED:
        lines = (root / path).read_text(encoding="utf-8").splitlines(keepends=True)
        finished = "".join(line for line in lines if NOTICE not in line)
        (root / path).write_text(finished, encoding="utf-8", newline="\n")
    shutil.rmtree(variants)
    return steps


def chain(folder: Path) -> list[Path]:
    """Return the folders to lay for one choice, in order: what it extends first, itself last."""
    if not folder.is_dir():
        raise LayingError(f"{VARIANTS}/{folder.parent.name} has no folder {folder.name}")
    extends = folder / EXTENDS
    below = chain(folder.with_name(extends.read_text(encoding="utf-8").strip())) if extends.exists() else []
    return [*below, folder]


def move(folder: Path, root: Path) -> None:
    """Move every file of `folder` to the same path under `root`, but for what it has for other axes."""
    for source in sorted(path for path in folder.rglob("*") if path.is_file()):
        path = source.relative_to(folder)
        if path.name in (EXTENDS, NEXT_STEPS) or path.parts[0] == WITH:
            continue
        target = root / path
        if target.exists():
            raise LayingError(
                f"{path.as_posix()} exists already; {folder.parent.name}/{folder.name} may only add files"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)


def next_steps(root: Path, of_variants: Sequence[str]) -> str:
    """Return the next steps, in at most eight lines."""
    further = "".join(f"\n  {line}" for line in of_variants)
    return f"""\

{root.name} is ready. Next:
  cd {root.name} && git init && git add --all && git commit --message "Generate the repo"
  make demo       trains the example in build/, serves it and asks for predictions
  make train      registers the first version and pins it in model.lock: commit that{further}
  make help       lists the other commands (without make: python tools/tasks.py help)
  model/          is the part to edit; docs/model.md says how"""


def main() -> int:
    """Finish the repo around this file; return the exit code."""
    root = Path(__file__).resolve().parent.parent
    try:
        steps = finish(root)
    except LayingError as error:
        print(f"error: the template is at fault: {error}.", file=sys.stderr)
        return 1
    # Not to stdout, where `cruft diff` prints a patch.
    print(next_steps(root, steps), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
