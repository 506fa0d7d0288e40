"""Running Docker commands in bounded time; a script is the STAND-IN for Docker."""

from __future__ import annotations

import pytest

from serving.domain.errors import OperatorError
from tests.platform.support.docker_program import Docker
from tools import engine

SLOW = "import time; time.sleep(600)"
TAKEN = "import sys; sys.exit(' Container x  Starting\\n{}')"


def test_without_docker_there_is_a_way_out(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert not engine.installed()
    with pytest.raises(OperatorError, match="docker is not installed; `make run` serves without containers"):
        engine.run(["docker", "ps"], None, 1.0)


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
        "Write other ports to .env: GRPC_PORT, METRICS_PORT or MLFLOW_PORT, for example GRPC_PORT=9001.",
    ]
