"""The locks of one repo install together, from any index, on every supported Python."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from local_extensions import ROOT_FOLDER
from tests.support import PAIRED, ROOT, Answers, combination_id, expected_files, tracked
from tools.resolve import lock_of

LOCKS = [path for path in tracked() if "requirements" in path.parts and path.suffix == ".txt"]
SOURCES = [path for path in tracked() if path.parent.name in ("requirements", "model") and path.suffix == ".in"]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SYSTEMS = ("linux", "darwin", "win32")
# They are installed into separate environments.
APART = ("import", "plots", "ray", "uv")
# Two locks are enough to disagree, and every two are together in one of these.
SETS = PAIRED


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


@functools.cache
def versions(lock: Path, python: str = PYTHONS[0], system: str = SYSTEMS[0]) -> dict[str, str]:
    """Return the versions in a lock by name; it must name each package once."""
    found = [entry for entry in requirements(lock) if applies(entry, python, system)]
    named = {str(canonicalize_name(entry.name)): str(entry.specifier).removeprefix("==") for entry in found}
    assert len(named) == len(found), lock
    return named


@functools.cache
def locks_of(answers: Answers) -> list[Path]:
    """Return the locks that a repo of these answers installs into its environment, overrides last."""
    choices = dict(answers)
    base = ROOT / ROOT_FOLDER
    brought = {path for path in expected_files(ROOT, choices) if path.parts[0] == "requirements"}
    places = [*base.glob("requirements/**/*.txt"), *base.glob("_variants/*/*/requirements/**/*.txt")]
    relative = {path: Path(*path.parts[path.parts.index("requirements") :]) for path in places}
    ours = [path for path in places if relative[path] in brought and chosen(path, choices) and path.stem not in APART]
    return sorted(ours, key=lambda path: (path.parent.name == "overrides", path))


def chosen(path: Path, choices: Mapping[str, str]) -> bool:
    below = path.relative_to(ROOT / ROOT_FOLDER).parts
    return below[0] != "_variants" or choices[below[1]] == below[2]


def test_every_requirement_file_has_its_lock() -> None:
    assert {lock_of(path) for path in SOURCES} == {path for path in LOCKS if path.parent.name != "overrides"}
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
@pytest.mark.parametrize("choices", SETS, ids=combination_id)
def test_every_package_has_one_version_in_a_repo(choices: Mapping[str, str], python: str, system: str) -> None:
    found: dict[str, set[str]] = {}
    for lock in locks_of(tuple(choices.items())):
        for name, version in versions(lock, python, system).items():
            if lock.parent.name == "overrides" and name in found:
                found[name] = {version}  # it overrides the others
            else:
                found.setdefault(name, set()).add(version)
    assert {name: several for name, several in found.items() if len(several) > 1} == {}


def test_a_choice_that_needs_older_packages_affects_only_its_own_repos() -> None:
    """Feast 0.67 holds back two packages; repos without it get newer ones."""
    feast = versions(variant("feature_store/feast"))
    base, redis = versions(Path(ROOT_FOLDER, "requirements", "base.txt")), versions(variant("feature_store/redis"))
    for name, others in (("prometheus-client", base), ("redis", redis)):
        assert Version(feast[name]) < Version(others[name]), name


def variant(folder: str, slot: str = "feature_store") -> Path:
    return Path(ROOT_FOLDER, "_variants", folder, "requirements", f"{slot}.txt")


def test_no_lock_installs_gpu_libraries() -> None:
    # The first two need no GPU: a wrapper of a library that may be absent, and Triton with a CPU.
    gpu = re.compile(r"(?!nvidia-ml-py$|nvidia-pytriton$)nvidia-.*|triton|xgboost")
    assert [(lock, name) for lock in LOCKS for name in versions(lock) if gpu.fullmatch(name)] == []


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_lock_satisfies_its_requirements(source: Path) -> None:
    wanted = [
        Requirement(line)
        for line in (ROOT / source).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith(("#", "-r "))
    ]
    locked = requirements(lock_of(source))
    for want in wanted:
        pins = [entry for entry in locked if canonicalize_name(entry.name) == canonicalize_name(want.name)]
        assert pins, want
        assert all(want.specifier.contains(str(pin.specifier).removeprefix("==")) for pin in pins), want


def test_the_server_is_locked_without_training_and_test_tools() -> None:
    base = {entry.name for entry in requirements(Path(ROOT_FOLDER, "requirements", "base.txt"))}
    assert base.isdisjoint({"scikit-learn", "onnx", "skl2onnx", "pytest", "grpcio-tools", "mypy"})


@pytest.mark.parametrize("folder", [".", ROOT_FOLDER])
def test_hooks_have_the_locked_versions(folder: str) -> None:
    hooks = (ROOT / folder / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    locked = {f"{entry.name}{entry.specifier}" for entry in requirements(Path(folder, "requirements", "dev.txt"))}
    pinned = re.findall(r'additional_dependencies: \["([^"]+)"\]', hooks)
    assert pinned
    assert set(pinned) <= locked
    assert len(pinned) == len(re.findall(r"^ +- id:", hooks, re.MULTILINE))
