"""The gateway's addresses and the replicas that it knows; a script is the STAND-IN for Docker."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serving.domain.errors import OperatorError
from tests.platform.support.docker_program import Docker
from tools import gateway
from tools.gateway import Gateway

SLOW = "import time; time.sleep(600)"
REFUSES = "import sys; sys.exit('Cannot connect to the Docker daemon')"
PAGE = """
haproxy_server_status{proxy="servers",server="replica1",state="DOWN"} 1
haproxy_server_status{proxy="servers",server="replica1",state="UP"} 0
haproxy_server_status{proxy="servers",server="replica4",state="UP"} 1
haproxy_server_status{proxy="metrics",server="replica12",state="UP"} 1
haproxy_server_status{proxy="metrics",server="replica2",state="UP"} 1
"""


def answering(*names: str, **ports: str) -> str:
    """Return a program that lists and describes these gateways; `p8001="9001"` is a published port."""
    bound = {f"{port[1:]}/tcp": [{"HostIp": "127.0.0.1", "HostPort": at}] for port, at in ports.items()}
    containers = [{"Id": name, "NetworkSettings": {"Ports": bound | {"8003/tcp": None}}} for name in names]
    return f"""
import json, sys
containers = json.loads({json.dumps(json.dumps(containers))})
if sys.argv[1] == "ps":
    assert "--filter=label=com.docker.compose.project=tiny-abc123" in sys.argv
    assert "--filter=label=com.docker.compose.service=gateway" in sys.argv
    print(*(container["Id"] for container in containers), sep="\\n")
else:
    print(json.dumps(containers))
"""


def test_the_published_addresses_are_found(docker: Docker) -> None:
    docker(answering("a", p8001="9001", p8002="9002"))
    assert gateway.find() == Gateway("127.0.0.1:9001", "127.0.0.1:9002")


def test_a_gateway_that_publishes_nothing_has_no_address(docker: Docker) -> None:
    docker(answering("a"))
    assert gateway.find() == Gateway("", "")


@pytest.mark.parametrize("program", [answering(), REFUSES, SLOW], ids=["no containers", "no daemon", "no answer"])
def test_there_is_no_gateway_if_nothing_runs_or_docker_does_not_answer(docker: Docker, program: str) -> None:
    docker(program)
    assert gateway.find(timeout=2.0) is None


def test_there_is_no_gateway_without_docker(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert gateway.find() is None


def test_docker_is_not_called_before_this_clone_has_a_name(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(answering("a"))
    monkeypatch.delenv("COMPOSE_PROJECT_NAME")
    assert gateway.find() is None


@pytest.fixture
def page() -> Iterator[str]:
    """The address of a STAND-IN for the gateway's metrics."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_replicas_that_are_up_are_known_by_number(page: str) -> None:
    known = Gateway("", page)
    assert known.up("servers") == [4]
    assert known.up("metrics") == [2, 12]


def test_a_gateway_that_does_not_answer_knows_no_replica(page: str) -> None:
    assert Gateway("", page.replace("127.0.0.1", "127.0.0.2")).up("servers") == []


def test_waiting_for_replicas_ends_when_all_are_known_or_in_time(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "find", lambda: Gateway("", page))
    assert gateway.await_replicas(2, "metrics", 600.0) == [2, 12]
    assert gateway.await_replicas(3, "metrics", 0.0) == [2, 12]
    monkeypatch.setattr(gateway, "find", lambda: None)
    assert gateway.await_replicas(3, "metrics", 600.0) == []


@pytest.mark.parametrize(
    "chosen",
    [{}, {"GRPC_PORTS": "8101-8164", "METRICS_PORTS": "8002"}, {"GRPC_PORTS": "9001", "GRPC_PORT": "9001"}],
)
def test_old_ports_that_nobody_chose_are_ignored(chosen: dict[str, str]) -> None:
    gateway.refuse_renamed(chosen)


def test_an_old_port_that_the_user_chose_is_refused_with_its_new_name() -> None:
    with pytest.raises(OperatorError, match="GRPC_PORTS=9001-9064 is no longer read; write GRPC_PORT=9001 to .env"):
        gateway.refuse_renamed({"GRPC_PORTS": "9001-9064"})
