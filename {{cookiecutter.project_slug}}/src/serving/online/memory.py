"""What memory this process may use and what it uses, in bytes; where the system doesn't say, nothing is known."""

from __future__ import annotations

import re
from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")

_KILOBYTES = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)
_RESET_PEAK = "5"


def limit(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Return the container's limit (of its control group, version 2 or 1), or else the machine's memory."""
    found = [_kilobytes(proc / "meminfo", "MemTotal")]
    for place in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        text = _text(place).strip()
        found.append(int(text) if text.isdecimal() else None)
    return min((value for value in found if value is not None), default=None)


def resident(proc: Path = PROC) -> int | None:
    """Return how much memory the process occupies."""
    return _kilobytes(proc / "self" / "status", "VmRSS")


def peak(proc: Path = PROC) -> int | None:
    """Return the most that it occupied since `reset_peak`."""
    return _kilobytes(proc / "self" / "status", "VmHWM")


def reset_peak(proc: Path = PROC) -> bool:
    """Forget the peak so far; return whether the system allows that."""
    try:
        (proc / "self" / "clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _kilobytes(place: Path, name: str) -> int | None:
    found = dict(_KILOBYTES.findall(_text(place)))
    return int(found[name]) * 1024 if name in found else None


def _text(place: Path) -> str:
    try:
        return place.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
