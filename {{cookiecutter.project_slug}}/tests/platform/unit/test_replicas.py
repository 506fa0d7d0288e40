"""Waiting for new replicas and removing them; a script is the STAND-IN for Docker."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from serving.offline import project
from tools import replicas

Docker = Callable[..., None]
WARNING = '{"level": "WARNING", "message": "golden rows differ"}'
LOG = f"{WARNING}\n{{}}\n"


@pytest.fixture
def docker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """Return a function that replaces Docker by one with these containers; it notes its commands."""
    monkeypatch.setattr(project, "ROOT", folder)
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "tiny-abc123")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def put(*containers: dict[str, object], log: str = LOG) -> None:
        script = folder / "docker"
        script.write_text(
            f"""#!{sys.executable}
import json, sys
containers = json.loads({json.dumps(json.dumps(containers))})
with open({str(folder / "asked")!r}, "a") as asked:
    print(*sys.argv[1:], file=asked)
if sys.argv[1] == "ps":
    assert "--all" in sys.argv
    print(*(container["Id"] for container in containers), sep="\\n")
elif sys.argv[1] == "inspect":
    print(json.dumps(containers))
elif sys.argv[1] == "logs":
    print({log!r}, file=sys.stderr)
""",
            encoding="utf-8",
        )
        script.chmod(0o755)

    return put


def container(name: str, status: str = "running", health: str = "healthy", restarts: int = 0) -> dict[str, object]:
    """Return what `docker inspect` says of a container."""
    labels = {"serving.deployment": "d1", "serving.version": "local:tiny/1#x", "com.docker.compose.config-hash": "c1"}
    return {
        "Id": name,
        "Image": "sha256:1",
        "Config": {"Image": "tiny-server:local", "Env": ["MODEL_VERSION=local:tiny/1#x"], "Labels": labels},
        "State": {"Status": status, "Health": {"Status": health}},
        "RestartCount": restarts,
    }


def test_a_replica_has_the_version_and_the_deployment_of_its_labels(docker: Docker) -> None:
    docker(container("b"), container("a", "exited"))
    assert [replica.container for replica in replicas.every()] == ["a", "b"]
    (running,) = replicas.running()
    assert (running.container, running.version, running.deployment) == ("b", "local:tiny/1#x", "d1")
    assert (running.config, running.image, running.image_name) == ("c1", "sha256:1", "tiny-server:local")
    assert running.healthy


def test_healthy_replicas_end_the_wait(docker: Docker) -> None:
    docker(container("a"), container("b"))
    replicas.await_health(["a", "b"], timeout=60.0)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (container("b", health="unhealthy"), "a new replica is unhealthy"),
        (container("b", "restarting", "starting"), "a new replica keeps restarting"),
        (container("b", "running", "starting", 1), "a new replica keeps restarting"),
        (container("b", "exited", ""), "a new replica is exited"),
    ],
)
def test_a_failed_replica_ends_the_wait_with_the_last_warning_of_its_log(
    docker: Docker, broken: dict[str, object], reason: str
) -> None:
    docker(container("a"), broken)
    with pytest.raises(OperatorError, match=f"{reason}; its log says: .*golden rows differ"):
        replicas.await_health(["a", "b"], timeout=60.0)


def test_a_replica_that_is_not_healthy_in_time_ends_the_wait(docker: Docker) -> None:
    docker(container("a", health="starting"), log="")
    with pytest.raises(OperatorError, match="a new replica is not healthy after 0 s$"):
        replicas.await_health(["a"], timeout=0.0)


def test_replicas_are_drained_before_they_are_removed(docker: Docker, folder: Path) -> None:
    docker()
    replicas.remove(["a", "b"])
    assert (folder / "asked").read_text(encoding="utf-8").splitlines() == ["stop a b", "rm --force a b"]
