"""The locks: any set of them installs together, from any index, on every supported Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from local_extensions import ROOT_FOLDER
from tests.support import ROOT, tracked

LOCKS = [path for path in tracked() if path.parent.name == "requirements" and path.suffix == ".txt"]
SOURCES = [path for path in tracked() if path.parent.name == "requirements" and path.suffix == ".in"]
PYTHONS = ("3.11", "3.12", "3.13")
SYSTEMS = ("linux", "darwin", "win32")


def entries(lock: Path) -> list[str]:
    """Return the entries of a lock, each on one line."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def requirements(lock: Path) -> list[Requirement]:
    return [Requirement(entry.partition(" --hash=")[0].strip()) for entry in entries(lock)]


def applies(requirement: Requirement, python: str, system: str) -> bool:
    marker = requirement.marker
    return marker is None or marker.evaluate(
        {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": system, "extra": ""}
    )


def test_every_requirement_file_has_its_lock() -> None:
    assert {path.with_suffix(".txt") for path in SOURCES} == set(LOCKS)
    assert len(LOCKS) >= 5


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_every_entry_is_pinned_and_hashed_and_has_no_address(lock: Path) -> None:
    assert entries(lock)
    for entry in entries(lock):
        assert re.match(r"[\w.-]+==[\w.+!]+( ; [^\\]*?)?( --hash=sha256:[0-9a-f]{64})+ *$", re.sub(" +", " ", entry)), (
            entry
        )
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_package_has_one_version_across_all_locks(python: str, system: str) -> None:
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        names = [canonicalize_name(entry.name) for entry in requirements(lock) if applies(entry, python, system)]
        assert len(names) == len(set(names)), lock
        for entry in requirements(lock):
            if applies(entry, python, system):
                versions.setdefault(canonicalize_name(entry.name), set()).add(str(entry.specifier))
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_lock_keeps_what_its_file_asks_for(source: Path) -> None:
    wanted = [
        Requirement(line)
        for line in (ROOT / source).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    locked = requirements(source.with_suffix(".txt"))
    for want in wanted:
        pins = [entry for entry in locked if canonicalize_name(entry.name) == canonicalize_name(want.name)]
        assert pins, want
        assert all(want.specifier.contains(str(pin.specifier).removeprefix("==")) for pin in pins), want


def test_the_server_is_locked_without_training_and_test_tools() -> None:
    base = {entry.name for entry in requirements(Path(ROOT_FOLDER, "requirements", "base.txt"))}
    assert base.isdisjoint({"scikit-learn", "onnx", "skl2onnx", "pytest", "grpcio-tools", "mypy"})


@pytest.mark.parametrize("folder", [".", ROOT_FOLDER])
def test_hooks_have_the_versions_that_are_locked(folder: str) -> None:
    hooks = (ROOT / folder / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    locked = {f"{entry.name}{entry.specifier}" for entry in requirements(Path(folder, "requirements", "dev.txt"))}
    pinned = re.findall(r'additional_dependencies: \["([^"]+)"\]', hooks)
    assert pinned
    assert set(pinned) <= locked
    assert len(pinned) == len(re.findall(r"^ +- id:", hooks, re.MULTILINE))
