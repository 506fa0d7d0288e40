"""Reading the state of this repo's containers from Docker, in bounded time; a script is the STAND-IN for Docker."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from serving.offline import project
from tools import engine

SLOW = "import time; time.sleep(600)"
REFUSES = "import sys; sys.exit('Cannot connect to the Docker daemon')"
TAKEN = "import sys; sys.exit(' Container x  Starting\\n{}')"
ONE = {"GRPC_PORTS": "8001", "METRICS_PORTS": "8002"}
MANY = {"GRPC_PORTS": "8101-8164", "METRICS_PORTS": "8201-8264"}

Docker = Callable[[str], None]


@pytest.fixture
def docker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """Return a function that replaces Docker by a Python program."""
    monkeypatch.setattr(project, "ROOT", folder)
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "tiny-abc123")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def put(program: str) -> None:
        script = folder / "docker"
        script.write_text(f"#!{sys.executable}\n{program}\n", encoding="utf-8")
        script.chmod(0o755)

    return put


def container(name: str, **ports: str) -> dict[str, object]:
    """Return what `docker inspect` says of a container; `p8001="8101"` is a published port."""
    bound = {f"{port[1:]}/tcp": [{"HostIp": "127.0.0.1", "HostPort": at}] for port, at in ports.items()}
    variables = ["PATH=/bin", f"MODEL_VERSION=local:tiny/1#{name}=="]
    return {"Id": name, "NetworkSettings": {"Ports": bound | {"8003/tcp": None}}, "Config": {"Env": variables}}


def answering(*containers: dict[str, object]) -> str:
    """Return a program that lists and describes these containers, if asked for those of this clone."""
    return f"""
import json, sys
containers = json.loads({json.dumps(json.dumps(containers))})
if sys.argv[1] == "ps":
    assert "--filter=label=com.docker.compose.project=tiny-abc123" in sys.argv
    assert "--filter=label=com.docker.compose.service=server" in sys.argv
    print(*(container["Id"] for container in containers), sep="\\n")
else:
    assert sys.argv[-len(containers):] == [container["Id"] for container in containers]
    print(json.dumps(containers))
"""


def test_the_grpc_addresses_of_all_replicas_are_found(docker: Docker) -> None:
    docker(answering(container("b", p8001="8102", p8002="8202"), container("a", p8001="8101", p8002="8201")))
    assert engine.grpc_addresses() == ["127.0.0.1:8101", "127.0.0.1:8102"]
    assert engine.replicas()[0] == engine.Replica("a", "127.0.0.1:8101", "127.0.0.1:8201", "local:tiny/1#a==")


def test_a_replica_that_publishes_nothing_has_no_address(docker: Docker) -> None:
    docker(answering(container("a")))
    assert engine.grpc_addresses() == []
    assert len(engine.replicas()) == 1


@pytest.mark.parametrize("program", [answering(), REFUSES, SLOW], ids=["no containers", "no daemon", "no answer"])
def test_there_are_no_addresses_if_nothing_runs_or_docker_does_not_answer(docker: Docker, program: str) -> None:
    docker(program)
    assert engine.grpc_addresses(timeout=2.0) == []


def test_there_are_no_addresses_without_docker(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert engine.grpc_addresses() == []
    assert not engine.installed()
    with pytest.raises(OperatorError, match="docker is not installed; `make run` serves without containers"):
        engine.replicas()


def test_docker_is_not_called_before_this_clone_has_a_name(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    docker("import sys; sys.exit('asked')")
    monkeypatch.delenv("COMPOSE_PROJECT_NAME")
    assert engine.replicas() == []


def test_a_command_that_hangs_is_ended_and_named(docker: Docker) -> None:
    docker(SLOW)
    with pytest.raises(OperatorError, match="`docker compose up` did not finish within 1 s"):
        engine.run(["docker", "compose", "up"], None, 1.0)


@pytest.mark.parametrize(
    "said", ["Bind for 127.0.0.1:8001 failed: port is already allocated", "listen: bind: address already in use"]
)
def test_a_taken_port_is_reported_with_where_to_set_another(docker: Docker, said: str) -> None:
    docker(TAKEN.format(said))
    with pytest.raises(OperatorError) as refusal:
        engine.run(["docker", "compose", "up"], None, 10.0)
    assert str(refusal.value).splitlines()[1:] == [
        said,
        "Write other ports to .env: GRPC_PORTS, METRICS_PORTS or MLFLOW_PORT, for example GRPC_PORTS=9001.",
    ]


@pytest.mark.parametrize(
    ("chosen", "many", "expected"),
    [
        ({}, False, ONE),
        ({}, True, MANY),
        (MANY, False, ONE),
        (ONE, True, MANY),
        ({"GRPC_PORTS": "9001"}, False, {"METRICS_PORTS": "8002"}),
        ({"GRPC_PORTS": "9001-9010"}, True, {"METRICS_PORTS": "8201-8264"}),
    ],
)
def test_enough_ports_are_chosen_and_those_set_by_the_user_stay(
    chosen: dict[str, str], many: bool, expected: dict[str, str]
) -> None:
    assert engine.ports(chosen, many=many) == expected


def test_a_single_port_is_refused_for_several_replicas() -> None:
    with pytest.raises(OperatorError, match="GRPC_PORTS=9001 is one port.*GRPC_PORTS=9001-9064"):
        engine.ports({"GRPC_PORTS": "9001"}, many=True)
