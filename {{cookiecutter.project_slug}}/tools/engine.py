"""Run Docker commands with a timeout; a failure ends with the engine's last lines."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from serving.domain.errors import OperatorError
from serving.offline import project
from tools.compose_setup import PROJECT, settings

SERVER = "server"

_LOOK_TIMEOUT_S = 10.0
_TAIL_LINES = 8
_PORT_TAKEN = ("port is already allocated", "address already in use")  # taken by a container, by another process
_PROGRESS = (" Container ", " Network ", " Volume ")


def project_name() -> str:
    """Return the Compose project name of this clone; empty before there is one."""
    return settings(project.ROOT).get(PROJECT, "")


def image_sizes() -> list[str]:
    """Return the name and size of each image that this clone has built."""
    reference = f"reference={project_name()}-*"
    listed = run(
        ["docker", "images", "--filter", reference, "--format", "{{.Repository}} {{.Size}}"], None, _LOOK_TIMEOUT_S
    )
    return sorted(line.removeprefix(f"{project_name()}-") for line in listed.splitlines())


def architecture() -> str:
    """Return the architecture that the engine builds for, such as `amd64`."""
    return run(["docker", "version", "--format", "{{.Server.Arch}}"], None, _LOOK_TIMEOUT_S).strip()


def image_id(name: str) -> str:
    """Return the id of the image that has this name now."""
    return run(["docker", "image", "inspect", "--format", "{{.Id}}", name], None, _LOOK_TIMEOUT_S).strip()


def run(command: Sequence[str], environment: Mapping[str, str] | None, timeout: float, *, errors: bool = False) -> str:
    """Run a command and return its output; with `errors`, also what it wrote to standard error.

    :raises OperatorError: it is not installed, failed, or did not end in time
    """
    done = _run(command, environment, timeout, show=False)
    return (done.stdout or "") + (done.stderr or "" if errors else "")


def show(command: Sequence[str], environment: Mapping[str, str] | None, timeout: float | None) -> None:
    """Run a command in this terminal; without a timeout, until the user ends it.

    :raises OperatorError: as `run`
    """
    _run(command, environment, timeout, show=True)


def installed() -> bool:
    """Return whether there is a docker command."""
    return shutil.which("docker") is not None


def watched() -> bool:
    """Return whether the output is a terminal."""
    return sys.stderr.isatty()


def _run(
    command: Sequence[str], environment: Mapping[str, str] | None, timeout: float | None, *, show: bool
) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        raise OperatorError(f"{command[0]} is not installed; `make run` serves without containers.")
    pipe = None if show else subprocess.PIPE
    try:
        done = subprocess.run(
            command,
            cwd=project.ROOT,
            env=environment,
            stdout=pipe,
            stderr=pipe,
            text=True,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise OperatorError(f"`{' '.join(command)}` did not finish within {timeout:.0f} s.") from None
    if done.returncode:
        raise OperatorError(f"`{' '.join(command)}` failed{_reason(done.stderr)}")
    return done


def _reason(stderr: str | None) -> str:
    if stderr is None:
        return ", for the reason above."
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith(_PROGRESS)]
    last = "\n".join(lines[-_TAIL_LINES:])
    if any(words in stderr for words in _PORT_TAKEN):
        last += "\nWrite other ports to .env: GRPC_PORT, METRICS_PORT or MLFLOW_PORT, for example GRPC_PORT=9001."
    return f":\n{last}"
