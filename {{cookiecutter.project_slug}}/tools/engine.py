"""Run Docker commands with a timeout; a failure ends with the engine's last lines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serving.domain.errors import OperatorError
from serving.offline import project
from tools.compose_setup import PROJECT, settings

SERVER = "server"

_GRPC, _METRICS = "8001/tcp", "8002/tcp"
# The ranges exclude the single ports: 8001 and 8002 never reach one replica of several.
_ONE_PORT = {"GRPC_PORTS": "8001", "METRICS_PORTS": "8002"}
_MANY_PORTS = {"GRPC_PORTS": "8101-8164", "METRICS_PORTS": "8201-8264"}
_LOOK_TIMEOUT_S = 10.0
_TAIL_LINES = 8
_PORT_TAKEN = ("port is already allocated", "address already in use")  # taken by a container, by another process
_PROGRESS = (" Container ", " Network ", " Volume ")


@dataclass(frozen=True)
class Replica:
    """A running server: its container, its published addresses, if any, and the version that it was started with."""

    container: str
    grpc: str
    metrics: str
    version: str = ""


def grpc_addresses(timeout: float = _LOOK_TIMEOUT_S) -> list[str]:
    """Return the gRPC addresses of this repo's running servers; none if Docker does not answer."""
    try:
        return [replica.grpc for replica in replicas(timeout) if replica.grpc]
    except OperatorError:
        return []


def replicas(timeout: float = _LOOK_TIMEOUT_S) -> list[Replica]:
    """Return this repo's running servers.

    :raises OperatorError: Docker is not installed, refuses, or does not answer in time
    """
    name = project_name()
    if not name:
        return []
    labels = (f"project={name}", f"service={SERVER}", "oneoff=False")
    filters = [f"--filter=label=com.docker.compose.{label}" for label in labels]
    listed = run(["docker", "ps", "--quiet", "--no-trunc", *filters], None, timeout).split()
    if not listed:
        return []
    containers = json.loads(run(["docker", "inspect", "--type", "container", *listed], None, timeout))
    found = []
    for container in containers:
        ports = container["NetworkSettings"]["Ports"] or {}
        variables = dict(entry.partition("=")[::2] for entry in container["Config"]["Env"] or ())
        version = variables.get("MODEL_VERSION", "")
        found.append(Replica(container["Id"], _published(ports, _GRPC), _published(ports, _METRICS), version))
    return sorted(found, key=lambda replica: replica.grpc)


def ports(chosen: Mapping[str, str], *, many: bool) -> dict[str, str]:
    """Return the ports that the user did not choose: single ports, or ranges for several replicas.

    :raises OperatorError: the user chose one port, and several replicas can't share it
    """
    found = {}
    for name, one in _ONE_PORT.items():
        own = chosen.get(name, "")
        if own in ("", one, _MANY_PORTS[name]):
            found[name] = (_MANY_PORTS if many else _ONE_PORT)[name]
        elif many and "-" not in own:
            raise OperatorError(
                f"{name}={own} is one port, but each replica needs its own; write a range to .env, "
                f"for example {name}=9001-9064."
            )
    return found


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


def _published(ports: Mapping[str, Sequence[Mapping[str, str]] | None], port: str) -> str:
    places = ports.get(port) or []
    return f"{places[0]['HostIp']}:{places[0]['HostPort']}" if places else ""


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
        last += "\nWrite other ports to .env: GRPC_PORTS, METRICS_PORTS or MLFLOW_PORT, for example GRPC_PORTS=9001."
    return f":\n{last}"
