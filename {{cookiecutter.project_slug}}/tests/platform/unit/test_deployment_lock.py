"""One command at a time changes the containers; the system frees the lock of a killed one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from serving.offline import project
from tests.platform.support.workspace import THIS_REPO, environment
from tools import containers
from tools.deployment_lock import only_change

HOLD = """
import subprocess, sys
from pathlib import Path
from tools.deployment_lock import only_change
with only_change(Path(sys.argv[1]), "deploy"):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=sys.stdin)
    print("ready", flush=True)
    child.wait()
"""


@contextmanager
def holding(history: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold the lock in another process that has a child; the child ends with its input."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(history)],
        env=environment(THIS_REPO),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_command_says_who_holds_the_lock_and_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "ROOT", folder)
    with holding(folder / "deployments.jsonl") as holder:
        for command in ("up", "deploy", "rollback", "down"):
            with pytest.raises(OperatorError) as refusal:
                containers.main([command])
            who = rf"`make deploy` since 20\d\d-\S+\+00:00, process {holder.pid}; wait until it has ended\."
            assert refusal.match(f"^another command changes the containers of this repo: {who}$")


def test_a_killed_command_holds_nothing_even_while_its_child_lives(folder: Path) -> None:
    history = folder / "deployments.jsonl"
    with holding(history) as holder:
        holder.kill()
        holder.wait()
        with only_change(history, "deploy"):
            pass
        with only_change(history, "deploy"):
            pass
    assert list(folder.glob(".deployments*")) == [folder / ".deployments.jsonl.lock"]


def test_a_folder_that_can_not_be_written_is_named(folder: Path) -> None:
    with (
        pytest.raises(OperatorError, match=r"\.deployments\.jsonl\.lock: can't be locked .*; check the rights"),
        only_change(folder / "missing" / "deployments.jsonl", "deploy"),
    ):
        pass
