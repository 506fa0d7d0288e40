"""The README of a generated repo is true: its commands and its code work, in the order in which they stand there."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support import CHOICES, SAMPLE, Block, Repo, blocks, generate, run

RUNNABLE = {"sh", "python"}
OF_ITS_OWN = "run: in an environment of its own"
IN_THE_BACKGROUND = "run: in the background"
NOTHING_BEFORE = "not run: there is one version, and none before it to go back to"
IN_CONTAINERS = "not run: needs a container engine; the template's tests/containers runs these commands"
PUBLISHED = "not run: needs the template where it is published"
# All tests of the platform, and a benchmark; test_end_to_end.py runs the unit tests.
TAKE_MINUTES = {"make test", "make bench"}
STOP_TIMEOUT_S = 30.0
PORT = "8001"


def page(repo: Repo) -> list[Block]:
    return [block for block in blocks(repo.text("README.md")) if block.language in RUNNABLE]


@pytest.mark.parametrize("feature_store", CHOICES["feature_store"])
def test_it_says_how_to_run_what_is_not_simply_run(generated: Callable[..., Repo], feature_store: str) -> None:
    notes = [block.note for block in page(generated(feature_store=feature_store)) if block.note]
    assert notes == [NOTHING_BEFORE, OF_ITS_OWN, IN_THE_BACKGROUND, IN_CONTAINERS, PUBLISHED]


@pytest.mark.parametrize("feature_store", CHOICES["feature_store"])
def test_its_verbs_exist(generated: Callable[..., Repo], feature_store: str) -> None:
    repo = generated(feature_store=feature_store)
    named = set(re.findall(r"(?:^|`)make ([\w-]+)", repo.text("README.md"), re.MULTILINE))
    assert named
    assert named <= set(re.findall(r'^    "([\w-]+)": Command\(', repo.text("tools/tasks.py"), re.MULTILINE))


def test_its_commands_and_its_code_work(default_repo: Repo, tmp_path: Path) -> None:
    every = set[str]().union(*map(commands, page(default_repo)))
    assert every > TAKE_MINUTES
    work_through(default_repo, tmp_path, every - TAKE_MINUTES)


@pytest.mark.long
def test_its_commands_that_take_minutes_work(default_repo: Repo) -> None:
    default_repo.passes("train")
    default_repo.passes("features")
    for command in sorted(TAKE_MINUTES):
        passes(["sh", "-e", "-c", command], default_repo, os.environ | {"PYTHON": sys.executable})


@pytest.mark.long
def test_what_pages_of_other_choices_say_beside_that_works_too(template: Path, tmp_path: Path) -> None:
    """A command is run once, whatever comment stands behind it; test_choices.py runs their tests and checks."""
    done = set[str]().union(*map(commands, page(generate(template, tmp_path / "default", SAMPLE[0]))))
    for number, choices in enumerate(SAMPLE[1:]):
        repo = generate(template, tmp_path / str(number) / "out", choices)
        fresh = set[str]().union(*map(commands, page(repo))) - done
        if fresh:
            repo.passes("train")
            repo.passes("features")
            work_through(repo, tmp_path / str(number), fresh)
        done |= fresh


def commands(block: Block) -> list[str]:
    """Return what a block runs: each line of a shell's, without comments, and other code as a whole."""
    if block.language != "sh":
        return [block.text]
    return [line for line in (re.sub(r"(^|\s+)#.*", "", line) for line in block.text.splitlines()) if line]


def work_through(repo: Repo, folder: Path, only: set[str] | None = None) -> None:
    """Do what the page says, from top to bottom; if `only` is given, no other commands, and what they need."""
    port = str(free_port())
    server = f"localhost:{port}"
    # The page is for a machine on which nothing else listens; here something may.
    environment = os.environ | {"PYTHON": sys.executable, "SERVING_GRPC_PORT": port, "SERVING_METRICS_PORT": "0"}
    caller = folder / "caller"
    python = caller / ("Scripts" if os.name == "nt" else "bin") / "python"
    todo = page(repo)
    with ExitStack() as running:
        for block in todo:
            chosen = [command for command in commands(block) if only is None or command in only]
            if block.note == OF_ITS_OWN:
                passes(["sh", "-e", "-c", f'"{sys.executable}" -m venv "{caller}"'], repo, environment)
                inside = environment | {"PATH": os.pathsep.join([str(python.parent), environment["PATH"]])}
                passes(["sh", "-e", "-c", block.text], repo, inside)
            elif block.language == "python" and chosen:
                # It says "with a server running (below)".
                (background,) = [other for other in todo if other.note == IN_THE_BACKGROUND]
                running.enter_context(served(background, repo, environment))
                code = block.text.replace(f"localhost:{PORT}", server)
                assert "sha256=" in passes([str(python), "-c", code], repo, environment)
            elif block.note not in (NOTHING_BEFORE, IN_THE_BACKGROUND, IN_CONTAINERS, PUBLISHED):
                for command in chosen:
                    options = {"ARGS": f"--target {server}"} if command == "make predict" else {}
                    passes(["sh", "-e", "-c", command], repo, environment | options)


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as listener:
        return int(listener.getsockname()[1])


def passes(command: list[str], repo: Repo, environment: dict[str, str]) -> str:
    done = run(command, cwd=repo.path, environment=environment)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def served(block: Block, repo: Repo, environment: dict[str, str]) -> Iterator[None]:
    """Run a block that serves, until the server is heard of; stop it in the end, as Ctrl-C does."""
    command = ["sh", "-e", "-c", block.text]
    with subprocess.Popen(
        command,
        cwd=repo.path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("{") and "grpc_port" in json.loads(line):
                break
        else:
            pytest.fail("the server ended:\n" + "".join(said))
        reader = threading.Thread(target=said.extend, args=(process.stderr,))
        reader.start()
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=STOP_TIMEOUT_S)
            reader.join()
    assert "Traceback" not in "".join(said)


@pytest.mark.long
@pytest.mark.parametrize("feature_store", ["sqlite", "none"])
def test_a_feature_that_is_added_as_it_says_is_served(
    template: Path, tmp_path: Path, default_repo: Repo, feature_store: str
) -> None:
    repo = generate(template, tmp_path / "out", {"feature_store": feature_store})
    (diff,) = [block for block in blocks(repo.text("README.md")) if block.language == "diff"]
    (tmp_path / "weight.diff").write_text(diff.text, encoding="utf-8")
    passes(["git", "apply", str(tmp_path / "weight.diff")], repo, dict(os.environ))
    python = default_repo.path / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    inside = os.environ | {"PYTHONPATH": os.pathsep.join(str(repo.path / name) for name in ("src", "client", "."))}
    passes([str(python), "-m", "serving.offline.train"], repo, inside)
    (manifest,) = repo.path.glob("registry/*/1/artifact/manifest.json")
    declared = json.loads(manifest.read_text(encoding="utf-8"))["features"]["static"]
    assert [feature["name"] for feature in declared] == ["weight", "age", "sex", "bmi"]
    if feature_store != "none":
        assert "wrote 442 rows" in passes([str(python), "-m", "serving.offline.materialize"], repo, inside)
    # The golden rows are answered right: the weight comes from the store or, where there is none, with the call.
    assert "sha256=" in passes([str(python), "-m", "tools.demo"], repo, inside)
