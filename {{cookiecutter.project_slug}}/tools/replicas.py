"""The server's containers: what runs, what it serves, whether it is healthy."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from serving.domain.errors import OperatorError
from tools import engine

_DEPLOYMENT, _VERSION = "serving.deployment", "serving.version"
_CONFIG = "com.docker.compose.config-hash"
_LOOK_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.5
_LOG_LINES = "50"
_LEVELS = ("WARNING", "ERROR", "CRITICAL")
_MAX_LOG_LENGTH = 300


@dataclass(frozen=True)
class Replica:
    """A container of the server; `deployment` is empty if plain Compose commands started it."""

    container: str
    version: str
    deployment: str
    status: str
    health: str
    restarts: int
    config: str = ""
    """Compose's hash of its configuration."""
    image: str = ""
    image_name: str = ""

    @property
    def healthy(self) -> bool:
        """Whether it serves."""
        return self.status == "running" and self.health in ("healthy", "")

    @property
    def failed(self) -> bool:
        """Whether it will not serve: it ended, restarts or is unhealthy."""
        return self.status not in ("created", "running") or self.health == "unhealthy" or self.restarts > 0


def running(timeout: float = _LOOK_TIMEOUT_S) -> list[Replica]:
    """Return this repo's servers that run.

    :raises OperatorError: Docker is not installed, refuses, or does not answer in time
    """
    return [replica for replica in every(timeout) if replica.status in ("running", "restarting")]


def every(timeout: float = _LOOK_TIMEOUT_S) -> list[Replica]:
    """Return this repo's servers in any state.

    :raises OperatorError: as `running`
    """
    name = engine.project_name()
    if not name:
        return []
    labels = (f"project={name}", f"service={engine.SERVER}", "oneoff=False")
    filters = [f"--filter=label=com.docker.compose.{label}" for label in labels]
    listed = engine.run(["docker", "ps", "--all", "--quiet", "--no-trunc", *filters], None, timeout).split()
    return _inspect(listed, timeout)


def await_health(containers: Sequence[str], timeout: float) -> None:
    """Wait until these containers are healthy.

    :raises OperatorError: one failed, is gone, or is not healthy in time
    """
    deadline = time.monotonic() + timeout
    while True:
        seen = _inspect(containers, _LOOK_TIMEOUT_S)
        if failed := [replica for replica in seen if replica.failed]:
            raise OperatorError(f"a new replica {_explain(failed[0])}")
        waiting = [replica for replica in seen if not replica.healthy]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise OperatorError(f"a new replica is not healthy after {timeout:.0f} s{_last_words(waiting[0])}")
        time.sleep(_POLL_S)


def remove(containers: Sequence[str]) -> None:
    """Let servers finish their calls, then remove their containers; Ctrl-C does not stop this half-way."""
    if not containers:
        return
    with uninterrupted():
        engine.run(["docker", "stop", *containers], None, _STOP_TIMEOUT_S * len(containers))
        engine.run(["docker", "rm", "--force", *containers], None, _STOP_TIMEOUT_S)


def _inspect(containers: Sequence[str], timeout: float) -> list[Replica]:
    if not containers:
        return []
    described = engine.run(["docker", "inspect", "--type", "container", *containers], None, timeout)
    return sorted(map(_replica, json.loads(described)), key=lambda replica: replica.container)


def _replica(container: dict[str, Any]) -> Replica:
    variables = dict(entry.partition("=")[::2] for entry in container["Config"]["Env"] or ())
    labels, state = container["Config"]["Labels"] or {}, container["State"]
    return Replica(
        container["Id"],
        labels.get(_VERSION) or variables.get("MODEL_VERSION", ""),
        labels.get(_DEPLOYMENT, ""),
        state["Status"],
        (state.get("Health") or {}).get("Status", ""),
        container.get("RestartCount", 0),
        labels.get(_CONFIG, ""),
        container["Image"],
        container["Config"]["Image"],
    )


def _explain(replica: Replica) -> str:
    restarted = replica.restarts or replica.status == "restarting"
    what = "keeps restarting" if restarted else f"is {replica.status}"
    return ("is unhealthy" if replica.health == "unhealthy" else what) + _last_words(replica)


def _last_words(replica: Replica) -> str:
    """Return the last warning or error of a replica's log, else its last line, as the end of a sentence."""
    command = ["docker", "logs", "--tail", _LOG_LINES, replica.container]
    try:
        lines = engine.run(command, None, _LOOK_TIMEOUT_S, errors=True).split("\n")
    except OperatorError:
        return ""
    lines = [line for line in lines if line.strip()]
    chosen = [line for line in lines if any(f'"level": "{level}"' in line for level in _LEVELS)] or lines
    return f"; its log says: {chosen[-1].strip()[:_MAX_LOG_LENGTH]}" if chosen else ""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM in the block, so that a clean-up ends."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
