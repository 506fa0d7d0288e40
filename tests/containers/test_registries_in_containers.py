"""Repos with a remote registry: only `fetch` reads it, and the last verified version works without it.

MLflow is the real server that the repo's own Compose file brings. Neptune is a STAND-IN of its server: see
tests/registries/neptune_server.py.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.stack import Stack, docker, needs_engine
from tests.registries.neptune_server import PROJECT, WORKSPACE, token
from tests.support import ROOT, run

pytestmark = pytest.mark.long

STAND_IN = "compose/stand_in.yaml"
LOOK = """
import importlib.util, os
known = [name for name in ("mlflow", "neptune", "tools") if importlib.util.find_spec(name)]
print(known, [name for name in os.environ if "MLFLOW" in name or "NEPTUNE" in name])
"""


@dataclass(frozen=True)
class Case:
    """A registry: the settings of its commands, and the error while it is unavailable."""

    registry: str
    settings: dict[str, str]
    unavailable: str
    prepare: Callable[[Stack], None]
    register: Callable[[Stack], None]

    @property
    def slug(self) -> str:
        return f"{self.registry}-test"


def add_the_stand_in(stack: Stack) -> None:
    """Add Neptune's stand-in and its token where Compose and `fetch` find them."""
    services = {
        # The stand-in speaks plain http, on a network of containers.
        "fetch": {"environment": {"OAUTHLIB_INSECURE_TRANSPORT": "1"}},
        "neptune": {
            "image": stack.image("fetch"),
            "command": ["python", "-m", "tests.registries.neptune_server", "neptune", "5080"],
            "working_dir": "/stand-in",
            "volumes": [f"{ROOT / 'tests'}:/stand-in/tests:ro"],
            "networks": ["outside"],
        },
    }
    (stack.repo.path / STAND_IN).write_text(json.dumps({"services": services}), encoding="utf-8")
    with (stack.repo.path / ".env").open("a", encoding="utf-8") as settings:
        settings.write(f"COMPOSE_FILE=compose.yaml{os.pathsep}{STAND_IN}\n")
    secret = stack.repo.path / "secrets" / "neptune_api_token"
    secret.chmod(0o644)
    secret.write_text(token("http://neptune:5080"), encoding="utf-8")
    secret.chmod(0o444)


def register_by_training(stack: Stack) -> None:
    """Train with MLflow as the registry."""
    stack.command("train", **MLFLOW.settings)


def register_by_copying(stack: Stack) -> None:
    """Train into the local registry, and copy the version to Neptune from a container that can resolve its name."""
    stack.command("train")
    (digest,) = re.findall(r"sha256=[0-9a-f]{64}", stack.repo.text("model.lock"))
    command = [
        *(
            "docker",
            "compose",
            "run",
            "--rm",
            "--no-deps",
            "--no-TTY",
            "fetch",
            "python",
            "-m",
            "serving.offline.model_version",
        ),
        *("--registry", "/registry", "copy", f"local:{stack.slug}/2", "neptune", "--artifacts", "/artifacts"),
    ]
    surroundings = os.environ | NEPTUNE.settings
    copied = run(command, cwd=stack.repo.path, environment=surroundings)
    reference = f"neptune:{stack.slug}/1#{digest}"
    assert copied.stdout.strip() == reference, copied.stderr
    (stack.repo.path / "model.lock").write_text(f"MODEL_VERSION={reference}\n", encoding="utf-8")


MLFLOW = Case(
    registry="mlflow",
    settings={
        "COMPOSE_PROFILES": "mlflow",
        "MLFLOW_PORT": "5099",
        "MLFLOW_TRACKING_URI": "http://localhost:5099",
        "MLFLOW_INSIDE_URI": "http://mlflow:5000",
        "MODEL_REGISTRY": "mlflow",
        "OVERLAP": "0",
    },
    unavailable="MLflow at mlflow:5000: gave no",
    prepare=lambda _: None,
    register=register_by_training,
)
NEPTUNE = Case(
    registry="neptune",
    settings={"NEPTUNE_PROJECT": f"{WORKSPACE}/{PROJECT}", "OVERLAP": "0"},
    unavailable="Neptune at neptune:5080: gave no",
    prepare=add_the_stand_in,
    register=register_by_copying,
)


@pytest.fixture(scope="module", params=[MLFLOW, NEPTUNE], ids=lambda case: str(case.registry))
def case(request: pytest.FixtureRequest) -> Case:
    """Return each registry in turn."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def stack(case: Case, template: Path, module_path: Path) -> Iterator[Stack]:
    """A server with a version from the folder, and the registry beside it."""
    needs_engine()
    running = Stack.generate(template, module_path / case.registry, case.slug)
    case.prepare(running)
    try:
        running.command("up", **case.settings)
        yield running
    finally:
        running.remove()


def test_plain_compose_commands_agree_with_what_runs(stack: Stack, case: Case) -> None:
    stack.agrees_with_plain_compose(**case.settings)


def test_a_version_of_the_remote_registry_is_deployed_without_access_by_the_server(stack: Stack, case: Case) -> None:
    estimator = stack.repo.path / "model" / "estimator.py"
    estimator.write_text(estimator.read_text(encoding="utf-8").replace("SEED = 7", "SEED = 8"), encoding="utf-8")
    case.register(stack)
    lock = stack.repo.text("model.lock")
    assert f"{case.registry}:{case.slug}/1#sha256=" in lock
    stack.command("deploy", **case.settings)
    (server,) = stack.containers("server")
    assert stack.inside(server, "python", "-c", LOOK) == "[] []"
    assert lock.strip() in docker("inspect", "--format", "{{.Config.Env}}", server)
    if case is MLFLOW:
        stack.is_unprivileged("mlflow")


def test_the_last_verified_version_can_be_deployed_while_the_registry_is_unavailable(stack: Stack, case: Case) -> None:
    (registry,) = stack.containers(case.registry)
    docker("stop", registry)
    try:
        stack.command("deploy", MODEL_REGISTRY=case.registry, OVERLAP="0")
        (server,) = stack.containers("server")
        lock = stack.repo.text("model.lock")
        unknown = f"MODEL_VERSION={case.registry}:{case.slug}/1#sha256={'0' * 64}\n"
        (stack.repo.path / "model.lock").write_text(unknown, encoding="utf-8")
        docker("stop", registry)  # the stand-in, a part of the service here, was started again
        refusal = stack.refused("deploy", **case.settings)
        (stack.repo.path / "model.lock").write_text(lock, encoding="utf-8")
        assert case.unavailable in refusal
        assert "Traceback" not in refusal
        assert stack.containers("server") == [server]
    finally:
        docker("start", registry)
