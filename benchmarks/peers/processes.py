"""A server as a process with its children: its start, its end, its CPU time and its memory."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from benchmarks.peers.calls import HOST, PeerError, WrongAnswerError
from benchmarks.peers.catalog import Ports, Program, last_words
from tools.process import clean

_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 20.0
_PAUSE_S = 0.02

T = TypeVar("T")


@dataclass(frozen=True)
class Process:
    """A running server."""

    process: psutil.Popen
    started: float
    log: Path

    def until(self, attempt: Callable[[], T]) -> T:
        """Return what an attempt returns as soon as it raises no PeerError.

        :raises WrongAnswerError: the attempt raised it
        :raises PeerError: the process ended, or the last attempt failed when its time to start is over
        """
        while True:
            try:
                return attempt()
            except WrongAnswerError:
                raise
            except PeerError as fault:
                if self.process.poll() is not None:
                    raise PeerError(
                        f"it ended with exit code {self.process.returncode}: {self._last_words()}"
                    ) from None
                if time.perf_counter() - self.started > _START_TIMEOUT_S:
                    raise PeerError(f"not ready after {_START_TIMEOUT_S:.0f} s: {fault}") from None
            time.sleep(_PAUSE_S)

    @property
    def age(self) -> float:
        """The seconds since its start."""
        return time.perf_counter() - self.started

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process and all its children so far."""
        return sum(float(times.user + times.system) for times in self._of_each(lambda process: process.cpu_times()))

    def memory_mb(self) -> float:
        """Return the memory of the process and its children; what they share counts once (Linux; elsewhere twice)."""
        each = self._of_each(lambda process: process.memory_full_info())
        return sum(float(getattr(memory, "pss", memory.rss)) for memory in each) / 1e6

    def _of_each(self, read: Callable[[psutil.Process], T]) -> list[T]:
        found = []
        for process in [self.process, *self.process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                found.append(read(process))
        return found

    def _last_words(self) -> str:
        return last_words(self.log.read_text(encoding="utf-8", errors="replace"))


@contextmanager
def running(program: Program) -> Iterator[Process]:
    """Run a server until the block ends; its output goes to `server.log` in its folder."""
    log = program.folder / "server.log"
    environment = clean({name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"})
    with log.open("w", encoding="utf-8") as output:
        process = psutil.Popen(
            program.command,
            cwd=program.folder,
            env=environment | dict(program.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Process(process, time.perf_counter(), log)
    finally:
        _end(process)


def _end(process: psutil.Popen) -> None:
    """Ask a server to stop; after a while, kill what is left of it."""
    with contextlib.suppress(psutil.Error):
        family = [process, *process.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(family, timeout=_STOP_TIMEOUT_S)
        for each in left:
            with contextlib.suppress(psutil.Error):
                each.kill()
        psutil.wait_procs(left, timeout=_STOP_TIMEOUT_S)


def free_ports() -> Ports:
    """Return ports on which nothing listens."""
    with contextlib.ExitStack() as probes:
        taken = [probes.enter_context(socket.create_server((HOST, 0))) for _ in range(3)]
        return Ports(*(int(probe.getsockname()[1]) for probe in taken))
