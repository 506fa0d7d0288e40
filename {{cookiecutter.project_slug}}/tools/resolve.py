"""Resolve requirement files into locks: pinned, hashed, for every platform, without a URL.

The locks work with any mirror of the package index. This file is the same in the template and in every repo that it
generates.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools import uv

OLDEST_PYTHON = "3.11"
_FORM = ("--universal", "--python-version", OLDEST_PYTHON, "--no-annotate", "--no-header", "--no-emit-index-url")


def lock_together(sources: Sequence[Path], *, upgrade: bool, constraints: Sequence[str] = ()) -> list[str]:
    """Resolve sources together, so that any set of their locks installs together; write the lock of each.

    Pins stay unless `upgrade` is set. Return the pins.

    :raises subprocess.CalledProcessError: there is no solution, or the package index can't be reached
    """
    locks = [lock_of(source) for source in sources]
    together = resolve(sources, prefer=[] if upgrade else pins(locks), constraints=constraints)
    drafts = [hashed([source], constraints=together) for source in sources]
    for draft, target in zip(drafts, locks, strict=True):
        target.parent.mkdir(exist_ok=True)
        target.write_text(draft, encoding="utf-8", newline="\n")
        print(f"wrote {target.parent.name}/{target.name}", flush=True)
    return together


def lock_of(source: Path) -> Path:
    """Return the lock of a source: all lie in requirements/, so model/requirements.in has requirements/model.txt."""
    if source.parent.name == "requirements":
        return source.with_suffix(".txt")
    return source.parent.with_name("requirements") / f"{source.parent.name}.txt"


def resolve(sources: Sequence[Path], *, prefer: Sequence[str] = (), constraints: Sequence[str] = ()) -> list[str]:
    """Return pins that satisfy all sources and constraints; keep the preferred ones where possible."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "together.txt")
        _write(target, prefer)  # uv keeps the pins that it finds in its output file
        _compile(sources, target, constraints)
        return pins([target])


def hashed(sources: Sequence[Path], *, constraints: Sequence[str] = (), no_deps: bool = False) -> str:
    """Return the text of a lock with hashes; without transitive dependencies if `no_deps` is set."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "hashed.txt")
        _compile(sources, target, constraints, "--generate-hashes", *(["--no-deps"] if no_deps else []))
        return target.read_text(encoding="utf-8")


def pins(locks: Iterable[Path]) -> list[str]:
    """Return each pin (`name==version ; marker`) of these locks once, without its hashes."""
    lines = [line for lock in locks if lock.exists() for line in lock.read_text(encoding="utf-8").splitlines()]
    return sorted({line.removesuffix("\\").rstrip() for line in lines if line and not line.startswith((" ", "#"))})


def follow(hooks: Path, locked: Iterable[str]) -> None:
    """Set each pre-commit hook to the locked version, so that hooks and `make check` agree."""
    versions = dict(pin.partition(" ")[0].split("==") for pin in locked)
    text = hooks.read_text(encoding="utf-8")
    for name in set(re.findall(r"([\w.-]+)==", text)):
        text = re.sub(rf"\b{re.escape(name)}==[\w.]+", f"{name}=={versions[name]}", text)
    hooks.write_text(text, encoding="utf-8", newline="\n")


def _compile(sources: Sequence[Path], target: Path, constraints: Sequence[str], *options: str) -> None:
    limits = target.with_name("constraints.txt")
    _write(limits, constraints)
    command = [uv.find(), "pip", "compile", "--quiet", *_FORM, *options, "--constraints", str(limits)]
    # A second index or a local folder of packages must not leak into the shared locks.
    local = {"UV_INDEX", "UV_FIND_LINKS"}
    environment = {name: value for name, value in uv.settings().items() if name not in local}
    done = subprocess.run(
        [*command, "--output-file", str(target), *map(str, sources)],
        check=False,
        env=environment | {"UV_NO_CONFIG": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
