"""A model behind TensorFlow Serving, in containers.

TensorFlow Serving's image can't be had everywhere. A stand-in of the same shape takes its place: its
`tensorflow_model_server` is the development server, TensorFlow's own runtime behind the same API. What Compose says of
users, networks, volumes and health is real, and so is the deployment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.stack import Stack, docker, needs_engine

pytestmark = pytest.mark.long

SLUG = "tensorflow-test"
IMAGE = "tensorflow-serving-stand-in:local"
STAND_IN = r"""
FROM python:3.13-slim-trixie
WORKDIR /app
COPY requirements/ requirements/
COPY tools/ tools/
RUN python -m tools.environment /opt/venv base framework
COPY src/ src/
# The development server ends when its input does, and a container's input has ended from the start.
ENV SERVE="python -m tools.development_server --models /models --address 0.0.0.0:8500"
RUN printf '#!/bin/sh\ntail -f /dev/null | $SERVE\n' \
    > /usr/local/bin/tensorflow_model_server && chmod 755 /usr/local/bin/tensorflow_model_server
ENV PATH=/opt/venv/bin:${PATH} PYTHONPATH=/app/src:/app HOME=/tmp
"""


@pytest.fixture(scope="module")
def stack(template: Path, module_path: Path) -> Iterator[Stack]:
    """The containers of a trained repo, with the stand-in."""
    needs_engine()
    running = Stack.generate(template, module_path / "tensorflow", SLUG)
    docker("build", "--quiet", "--tag", IMAGE, "--file", "-", str(running.repo.path), stdin=STAND_IN)
    with (running.repo.path / ".env").open("a", encoding="utf-8") as settings:
        settings.write(f"TENSORFLOW_SERVING_IMAGE={IMAGE}\n")
    try:
        running.command("up")
        yield running
    finally:
        running.remove()
        docker("image", "rm", "--force", IMAGE)


def test_the_server_answers_with_what_tensorflow_serving_computes(stack: Stack) -> None:
    assert f"answered by {SLUG} version 1" in stack.command("predict")


def test_a_thousand_rows_get_the_same_bits_in_a_batch_as_in_a_call(stack: Stack) -> None:
    stack.scores_as_it_answers(flagged=False)  # without a feature store


def test_tensorflow_serving_runs_unprivileged_and_publishes_no_port(stack: Stack) -> None:
    stack.is_unprivileged("server", "tensorflow-serving")
    (container,) = stack.containers("tensorflow-serving")
    assert docker("port", container) == ""


def test_tensorflow_is_not_in_the_servers_image(stack: Stack) -> None:
    (container,) = stack.containers("server")
    assert "No module named" in stack.inside(container, "python", "-c", "import tensorflow")
    print(stack.command("image-size"))


def test_a_restarted_tensorflow_serving_is_found_again(stack: Stack) -> None:
    (container,) = stack.containers("tensorflow-serving")
    docker("restart", container)
    stack.compose("up", "--detach", "--wait", "--no-recreate")
    assert f"answered by {SLUG} version 1" in stack.command("predict")


def test_a_deployment_loads_the_new_version_beside_the_old_one(stack: Stack) -> None:
    estimator = stack.repo.path / "model" / "estimator.py"
    estimator.write_text(estimator.read_text(encoding="utf-8").replace("SEED = 7", "SEED = 8"), encoding="utf-8")
    stack.command("train")
    stack.command("deploy", OVERLAP="0")
    assert f"answered by {SLUG} version 2" in stack.command("predict")
    (container,) = stack.containers("tensorflow-serving")
    versions = stack.inside(container, "ls", f"/models/{SLUG}").split()
    assert len(versions) == 2
    assert all(re.fullmatch(r"\d+", version) for version in versions)
