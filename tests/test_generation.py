"""Generating writes exactly the right files, the same everywhere, and does nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from pytest_cookies.plugin import Cookies

from local_extensions import ROOT_FOLDER, SYNTAX
from tests.releases import contents
from tests.support import (
    AXES,
    PAIRED,
    PROMPTS,
    SAMPLE,
    Repo,
    combination_id,
    cookiecutter,
    every_pair,
    expected_files,
    files_below,
    generate,
    is_text,
    run,
    tracked,
)

EVERY = every_pair()

Generated = Callable[..., Repo]

WINDOWS_FORBIDS = re.compile(r'[<>:"|?*\x00-\x1f\\]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)
LONGEST_PATH = 120
LONGEST_IN_TEMPLATE = 150  # below the folders of a choice; Windows allows 260 with the folder of the clone
NAMES_REST = {"docs/rest-api.md", "compose/publish_rest_api.yaml"}
COMMAND = re.compile(r'^    "([\w-]+)": Command\(', re.MULTILINE)
FINISHING = (b"_variants", b"until finished", b"finish.py")

# Runs in every Python that generation starts, the hook's included, and records forbidden actions.
SPY = """
import os, sys

NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")
PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")

def note(event, arguments):
    if event in NETWORK + PROCESSES:
        with open(os.environ["SPY_REPORT"], "a", encoding="utf-8") as report:
            print(event, arguments[0] if arguments else "", file=report)

sys.addaudithook(note)
"""

# Runs there too, and sets every Python's clock to 2001.
CLOCK = """
import datetime, time

BEGIN = 1_000_000_000 - time.time()
now, now_ns, localtime, gmtime, strftime = time.time, time.time_ns, time.localtime, time.gmtime, time.strftime
time.time = lambda: now() + BEGIN
time.time_ns = lambda: now_ns() + int(BEGIN * 1e9)
time.localtime = lambda seconds=None: localtime(time.time() if seconds is None else seconds)
time.gmtime = lambda seconds=None: gmtime(time.time() if seconds is None else seconds)
time.strftime = lambda form, moment=None: strftime(form, moment or time.localtime())

class Moment(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)

class Day(datetime.date):
    @classmethod
    def today(cls):
        return cls.fromtimestamp(time.time())

datetime.datetime, datetime.date = Moment, Day
"""

# Runs there too, and ends lines as on Windows, unless the caller of open() says otherwise.
WINDOWS_LINES = """
import builtins, io, os

real = io.open
os.linesep = "\\r\\n"

def windows_open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
    if newline is None and "b" not in mode and set(mode) & set("wax"):
        newline = os.linesep
    return real(file, mode, buffering, encoding, errors, newline, closefd, opener)

builtins.open = io.open = windows_open
"""


@EVERY
def test_a_repo_is_the_base_and_the_folders_of_its_choices(
    generated: Generated, template: Path, choices: dict[str, str]
) -> None:
    assert generated(**choices).files() == sorted(expected_files(template, choices))


@EVERY
def test_a_repo_without_a_rest_api_has_nothing_of_one(generated: Generated, choices: dict[str, str]) -> None:
    repo = generated(**choices)
    of_rest = re.compile(r"serving\.online\.rest\b|SERVING_REST|REST_PORT|rest_server|swagger_ui")
    # What may name it says that there is none.
    found = {
        str(path)
        for path in repo.files()
        if is_text(repo.path / path) and of_rest.search((repo.path / path).read_text(encoding="utf-8"))
    }
    brought = {str(path) for path in repo.files() if "rest" in path.stem.split("_") or "rest" in path.parts}
    if choices["rest_api"] == "none":
        assert found | brought <= NAMES_REST
    else:
        assert len(found) > 5
        assert len(brought) > 10


@EVERY
def test_no_template_syntax_is_left(generated: Generated, choices: dict[str, str]) -> None:
    repo = generated(**choices)
    # Python files are copied as they are, and double braces are Python there.
    rendered = [path for path in repo.files() if path.suffix not in {".py", ".pyi"} and is_text(repo.path / path)]
    left = {str(path) for path in rendered for mark in SYNTAX if mark in repo.text(str(path)).replace("${{", "")}
    assert left == set()


@EVERY
def test_every_text_file_is_utf8_with_unix_line_ends_and_a_final_newline(
    generated: Generated, choices: dict[str, str]
) -> None:
    repo = generated(**choices)
    for path in repo.files():
        if is_text(repo.path / path):
            content = (repo.path / path).read_bytes()
            content.decode("utf-8")
            assert b"\r" not in content, path
            assert not content or content.endswith(b"\n"), path


@EVERY
def test_every_path_is_legal_on_windows(generated: Generated, choices: dict[str, str]) -> None:
    assert_legal_on_windows(generated(**choices).files(), LONGEST_PATH)


def test_every_path_of_the_template_is_legal_on_windows() -> None:
    assert_legal_on_windows(tracked(), LONGEST_IN_TEMPLATE)


def assert_legal_on_windows(paths: Sequence[Path], longest: int) -> None:
    assert [path for path in paths for part in path.parts if WINDOWS_FORBIDS.search(part)] == []
    assert [path for path in paths if len(str(path)) > longest] == []
    assert len({str(path).casefold() for path in paths}) == len(paths)


def test_line_ends_are_the_same_where_python_defaults_to_those_of_windows(
    generated: Generated, template: Path, tmp_path: Path
) -> None:
    (tmp_path / "windows").mkdir()
    (tmp_path / "windows" / "sitecustomize.py").write_text(WINDOWS_LINES, encoding="utf-8")
    done = cookiecutter(template, tmp_path / "out", environment={"PYTHONPATH": str(tmp_path / "windows")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert b"\r\n" in (tmp_path / "out.home" / ".cookiecutter_replay" / f"{template.name}.json").read_bytes()
    assert contents(tmp_path / "out" / "diabetes-progression") == contents(generated(**PAIRED[0]).path)


def test_the_same_answers_give_the_same_bytes_and_modes_everywhere(template: Path, tmp_path: Path) -> None:
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    surroundings = [
        {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "1", "PYTHONPATH": str(tmp_path / "clock")},
        {"TZ": "America/Los_Angeles", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2", "PYTHONUTF8": "0"},
    ]
    trees = []
    for number, environment in enumerate(surroundings):
        # Each also has a separate home beside its working folder.
        folder = tmp_path / f"place-{number}" / ("deeper" * number)
        folder.mkdir(parents=True)
        previous = os.umask(0o077 * number)
        try:
            done = cookiecutter(template, folder / "out", "organization=Größe & Söhne", environment=environment)
        finally:
            os.umask(previous)
        assert done.returncode == 0, done.stdout + done.stderr
        trees.append({path: state(folder / "out" / path) for path in files_below(folder / "out")})
    assert trees[0] == trees[1]


def state(file: Path) -> tuple[bytes, int]:
    """Return a file's bytes and its owner's permissions; the umask decides the rest."""
    return file.read_bytes(), file.stat().st_mode & stat.S_IRWXU


def test_generating_needs_no_network_and_starts_nothing_but_the_hook(template: Path, tmp_path: Path) -> None:
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY, encoding="utf-8")
    report = tmp_path / "report"
    environment = {"PYTHONPATH": str(tmp_path / "spy"), "SPY_REPORT": str(report)}
    done = cookiecutter(template, tmp_path / "out", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    # On Windows, Cookiecutter starts hooks through the shell.
    started = os.environ["COMSPEC"] if os.name == "nt" else sys.executable
    assert report.read_text(encoding="utf-8").splitlines() == [f"subprocess.Popen {started}"]


def test_the_hook_leaves_git_alone(template: Path, tmp_path: Path) -> None:
    git, canary = tmp_path / "bin" / "git", tmp_path / "canary"
    git.parent.mkdir()
    git.write_text(f'#!/bin/sh\ntouch "{canary}"\n', encoding="utf-8")
    git.chmod(git.stat().st_mode | stat.S_IXUSR)
    path = os.pathsep.join([str(git.parent), os.environ["PATH"]])
    done = cookiecutter(template, tmp_path / "out", environment={"PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    assert not canary.exists()
    assert list((tmp_path / "out").rglob(".git")) == []


def test_git_ignores_the_rows_of_people_that_commands_write(generated: Generated, tmp_path: Path) -> None:
    repo = generated()
    (log,) = re.findall(r"SERVING_PREDICTION_LOG=(\w+) make run", repo.text("docs/monitoring.md"))
    shutil.copy(repo.path / ".gitignore", tmp_path)
    assert run(["git", "init", "--quiet"], cwd=tmp_path).returncode == 0
    written = [f"{log}/1.rows", f"{log}/1.parquet", "batch/labels.csv", "data/features.db", "build/drift.html"]
    ignored = run(["git", "check-ignore", *written], cwd=tmp_path)
    assert ignored.stdout.splitlines() == written


@pytest.mark.parametrize("choices", SAMPLE, ids=combination_id)
def test_the_next_steps_are_short_begin_with_git_and_fit_the_answers(
    template: Path, tmp_path: Path, choices: dict[str, str]
) -> None:
    done = cookiecutter(template, tmp_path / "out", *(f"{question}={choice}" for question, choice in choices.items()))
    lines = done.stderr.strip().splitlines()
    assert len(lines) <= 8
    assert "git init" in lines[1]
    for axis in AXES:
        own = template / ROOT_FOLDER / "_variants" / axis / choices[axis] / "_next_steps"
        assert not own.exists() or own.read_text(encoding="utf-8").strip() in done.stderr
    repo = Repo(tmp_path / "out" / "diabetes-progression")
    commands = COMMAND.findall(repo.text("tools/tasks.py"))
    steps = [line.split() for line in lines[2:]]
    assert [step for step in steps if step[0] == "make" and step[1] not in commands] == []
    assert [step for step in steps if step[0] != "make" and not (repo.path / step[0]).exists()] == []


def test_generating_works_from_python_too(cookies: Cookies, template: Path) -> None:
    result = cookies.bake(template=str(template), extra_context={"project_slug": "another-name"})
    assert result.exception is None
    assert result.project_path.name == "another-name"


def test_generating_twice_into_one_place_is_refused_and_changes_nothing(template: Path, tmp_path: Path) -> None:
    repo = generate(template, tmp_path / "out", {})
    before = {path: (repo.path / path).read_bytes() for path in repo.files()}
    done = cookiecutter(template, tmp_path / "out")
    assert done.returncode == 1
    assert "already exists" in done.stdout
    assert {path: (repo.path / path).read_bytes() for path in repo.files()} == before


# Without the hook


@pytest.mark.parametrize("choices", SAMPLE, ids=combination_id)
def test_a_repo_without_its_hook_says_so_and_one_command_finishes_it(
    generated: Generated, template: Path, tmp_path: Path, choices: dict[str, str]
) -> None:
    given = [f"{question}={choice}" for question, choice in choices.items()]
    done = cookiecutter(template, tmp_path / "out", "--accept-hooks", "no", *given)
    assert done.returncode == 0, done.stdout + done.stderr
    unfinished = Repo(tmp_path / "out" / "diabetes-progression")
    (finishing,) = re.findall("`(python3 [^`]+)`", unfinished.text("README.md").splitlines()[0])
    for command in COMMAND.findall(unfinished.text("tools/tasks.py")):
        refused = unfinished.command(command)
        assert refused.returncode == 1
        assert refused.stderr == f"error: the template's hook did not run; finish the repo: {finishing}\n"
    finished = run([sys.executable, *finishing.split()[1:]], cwd=unfinished.path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "is ready. Next:" in finished.stderr
    assert contents(unfinished.path) == contents(generated(**choices).path)


@EVERY
def test_a_finished_repo_has_no_trace_of_the_hook(generated: Generated, choices: dict[str, str]) -> None:
    left = {
        path for path, content in contents(generated(**choices).path).items() for word in FINISHING if word in content
    }
    assert left == set()


@pytest.fixture
def finishing(template: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("finish", template / ROOT_FOLDER / "_variants" / "finish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A repo before the hook: one axis, one choice that extends a shared folder."""
    write(tmp_path, ".answers.json", json.dumps({"cookiecutter": {"store": "redis"}}))
    write(tmp_path, "base.txt", "base")
    write(tmp_path, "README.md", "unfinished <!-- until finished -->\n# Name\n")
    write(tmp_path, "tools/tasks.py", "stop()  # until finished\ngo()\n")
    write(tmp_path, "_variants/finish.py", "this")
    write(tmp_path, "_variants/store/_shared/src/shared.txt", "shared")
    write(tmp_path, "_variants/store/redis/_extends", "_shared\n")
    write(tmp_path, "_variants/store/redis/_next_steps", "start Redis\n")
    write(tmp_path, "_variants/store/redis/src/redis.txt", "redis")
    write(tmp_path, "_variants/store/none/src/none.txt", "none")
    return tmp_path


def write(folder: Path, path: str, text: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text, encoding="utf-8")


def test_a_choice_is_laid_over_what_it_extends(finishing: ModuleType, unfinished: Path) -> None:
    assert finishing.finish(unfinished) == ["start Redis"]
    names = [path.as_posix() for path in files_below(unfinished)]
    assert names == [".answers.json", "README.md", "base.txt", "src/redis.txt", "src/shared.txt", "tools/tasks.py"]
    assert not (unfinished / "_variants").exists()
    assert (unfinished / "README.md").read_text(encoding="utf-8") == "# Name\n"
    assert (unfinished / "tools" / "tasks.py").read_text(encoding="utf-8") == "go()\n"


def test_what_a_choice_brings_for_choices_of_another_axis_is_laid_with_those(
    finishing: ModuleType, unfinished: Path
) -> None:
    """`_with/<axis>/<choice>/`: also for what the other choice extends; for no other choice."""
    write(unfinished, ".answers.json", json.dumps({"cookiecutter": {"store": "redis", "deployment": "cluster"}}))
    for choice in ("_shared", "redis", "none"):
        write(unfinished, f"_variants/deployment/cluster/_with/store/{choice}/deploy/{choice}.yaml", choice)
    assert finishing.finish(unfinished) == ["start Redis"]
    assert sorted(path.name for path in (unfinished / "deploy").iterdir()) == ["_shared.yaml", "redis.yaml"]
    assert not list(unfinished.rglob("_with"))


@pytest.mark.parametrize("path", ["base.txt", "src/shared.txt"], ids=["of the base", "of what it extends"])
def test_a_variant_that_would_replace_a_file_is_an_error(finishing: ModuleType, unfinished: Path, path: str) -> None:
    write(unfinished, f"_variants/store/redis/{path}", "other")
    with pytest.raises(finishing.LayingError, match=rf"{path} exists already; store/redis may only add files"):
        finishing.finish(unfinished)


def test_a_choice_without_a_folder_is_an_error(finishing: ModuleType, unfinished: Path) -> None:
    write(unfinished, ".answers.json", json.dumps({"cookiecutter": {"store": "feast"}}))
    with pytest.raises(finishing.LayingError, match="_variants/store has no folder feast"):
        finishing.finish(unfinished)


def test_a_fault_of_the_template_leaves_nothing_behind(template: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(template, broken)
    write(broken / ROOT_FOLDER, f"_variants/feature_store/{PROMPTS['feature_store'][0]}/Makefile", "other")
    done = cookiecutter(broken, tmp_path / "out")
    assert done.returncode == 1
    assert "error: the template is at fault: Makefile exists already" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []
