from __future__ import annotations

import sys
from pathlib import Path

import pytest

from serving.online import memory

MEMINFO = "MemTotal:       24000 kB\nMemFree:        1 kB\n"
STATUS = "Name:\tpython\nVmHWM:\t     300 kB\nVmRSS:\t     200 kB\n"


def system(folder: Path, limit: str = "") -> tuple[Path, Path]:
    """Write what Linux would show; return the places of /proc and of the control groups."""
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "proc" / "meminfo").write_text(MEMINFO)
    (folder / "proc" / "self" / "status").write_text(STATUS)
    (folder / "cgroup" / "memory").mkdir(parents=True)
    if limit:
        (folder / "cgroup" / "memory.max").write_text(limit)
    return folder / "proc", folder / "cgroup"


def test_the_limit_is_the_machines_memory_without_a_container(folder: Path) -> None:
    assert memory.limit(*system(folder)) == 24000 * 1024


def test_the_limit_of_a_container_counts(folder: Path) -> None:
    assert memory.limit(*system(folder, "1000\n")) == 1000


def test_a_container_without_a_limit_has_the_machines_memory(folder: Path) -> None:
    assert memory.limit(*system(folder, "max\n")) == 24000 * 1024


def test_the_older_kind_of_control_groups_counts_too(folder: Path) -> None:
    proc, cgroup = system(folder)
    (cgroup / "memory" / "memory.limit_in_bytes").write_text("2000\n")
    assert memory.limit(proc, cgroup) == 2000


def test_what_the_process_occupies_is_read(folder: Path) -> None:
    proc, _ = system(folder)
    assert (memory.resident(proc), memory.peak(proc)) == (200 * 1024, 300 * 1024)


def test_where_the_system_says_nothing_nothing_is_known(folder: Path) -> None:
    nowhere = folder / "nowhere"
    assert memory.limit(nowhere, nowhere) is None
    assert memory.resident(nowhere) is None
    assert not memory.reset_peak(nowhere)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_the_peak_of_this_process_grows_with_what_it_takes() -> None:
    assert memory.reset_peak()
    before = memory.peak()
    held = b"x" * (64 << 20)
    after = memory.peak()
    assert before is not None
    assert after is not None
    assert after - before >= 60 << 20
    del held
    assert memory.reset_peak()
    assert (memory.peak() or 0) < after
