"""What the tests share: a clean copy of the template, and repos generated from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support import Answers, Repo, copy_of_template, generate, scratch

collect_ignore = ["other_model", "estimators"]  # its tests run in a repo: test_other_model.py

KUBECTL = "kubectl-1.32:local"
KUBECTL_IMAGE = """\
FROM debian:trixie-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends kubernetes-client
"""
CONTAINERS = "containers"
LONGEST = (
    CONTAINERS,
    "tests/test_generated_readme.py",
    "tests/test_model_page.py",
    "tests/test_import.py",
    "tests/test_choices.py",
    "tests/test_end_to_end.py",
)
# Their tests share nothing that is slow to make.
APART = ("test_answer_properties.py", "test_choices.py", "test_other_model.py", "test_updates.py")
# They generate repos and make no environment in them.
LIGHT = (
    "test_answer_properties.py",
    "test_answers.py",
    "test_contributing.py",
    "test_generation.py",
    "test_guardrails.py",
    "test_hooks.py",
    "test_manifests.py",
    "test_pipelines.py",
    "test_raw_template.py",
    "test_updates.py",
)


def pytest_configure() -> None:
    """Unset what `make test ARGS=...` would pass on to every make that a test starts."""
    for name in ("ARGS", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL"):
        os.environ.pop(name, None)
    # With it, every start of a repo's server compiles all that it imports: 10 s for Feast.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = True  # in this process: tests import from the copy of the template that all share


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slowest tests first, so that the workers end at about the same time."""

    def rank(item: pytest.Item) -> int:
        return next((rank for rank, name in enumerate(LONGEST) if group_of(item.nodeid).startswith(name)), len(LONGEST))

    items.sort(key=rank)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Keep tests that share a repo or the container engine on one worker.

    Marks would do, but xdist 3.8 hands them on by an attribute that pytest 9.2 no longer reads.
    """
    return Groups(config, log)


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Distribute whole groups of tests."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Return the group of a test: the containers, else its file, else itself."""
    path = nodeid.partition("::")[0]
    if f"/{CONTAINERS}/" in path:
        return CONTAINERS
    return nodeid if path.rpartition("/")[2] in APART else path


@contextmanager
def kept_if_failed(folder: Path, session: pytest.Session) -> Iterator[Path]:
    """Remove a folder at the end, unless a test failed meanwhile."""
    failed = session.testsfailed
    yield folder
    if session.testsfailed == failed:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def light(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder for repos without environments, in memory if there is room."""
    with kept_if_failed(Path(tempfile.mkdtemp(dir=scratch())), request.session) as folder:
        yield folder


@pytest.fixture
def tmp_path(tmp_path: Path, light: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A test's own folder."""
    if request.path.name not in LIGHT:
        yield tmp_path
        return
    with kept_if_failed(Path(tempfile.mkdtemp(dir=light)), request.session) as folder:
        yield folder


@pytest.fixture(scope="module")
def module_path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder for a module's fixtures. It goes with the module, unless a test failed: environments are large."""
    with kept_if_failed(tmp_path_factory.mktemp("module"), request.session) as folder:
        yield folder


@pytest.fixture(scope="session", autouse=True)
def types_known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What mypy knows of libraries is the same in every repo; mypy itself compares the content of each file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYPY_CACHE_DIR", str(tmp_path_factory.mktemp("types")))
        yield


@pytest.fixture(scope="session")
def template(light: Path) -> Path:
    """The template as in a fresh clone: no caches, no files that git ignores."""
    return copy_of_template(light / "ml-serving-template")


@pytest.fixture(scope="session")
def generated(template: Path, light: Path) -> Callable[..., Repo]:
    """Return the repo for these answers; a session generates it once, so don't write into it."""
    repos: dict[Answers, Repo] = {}

    def give(**answers: str) -> Repo:
        key = tuple(sorted(answers.items()))
        if key not in repos:
            repos[key] = generate(template, light / f"repo-{len(repos)}", answers)
        return repos[key]

    return give


@pytest.fixture(scope="session")
def default_repo(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A writable repo of the default answers, with its environment."""
    repo = generate(template, tmp_path_factory.mktemp("default"), {})
    repo.passes("setup")
    return repo


@pytest.fixture(scope="session")
def kubectl(tmp_path_factory: pytest.TempPathFactory, light: Path) -> Iterator[None]:
    """Put kubectl on PATH: that of this machine, or Debian's in a container."""
    if shutil.which("kubectl"):
        yield
        return
    if shutil.which("docker") is None:
        (pytest.fail if os.environ.get("CONTAINER_ENGINE_REQUIRED") else pytest.skip)("neither kubectl nor docker")
    subprocess.run(["docker", "build", "--quiet", "--tag", KUBECTL, "-"], input=KUBECTL_IMAGE, text=True, check=True)
    folder = tmp_path_factory.mktemp("kubectl")
    mounted = " ".join(f"--volume {path}:{path}:ro" for path in (tmp_path_factory.getbasetemp(), light))
    words = f"exec docker run --rm --interactive {mounted} --network none {KUBECTL} kubectl"
    (folder / "kubectl").write_text(f'#!/bin/sh\n{words} "$@"\n', encoding="utf-8")
    (folder / "kubectl").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield
