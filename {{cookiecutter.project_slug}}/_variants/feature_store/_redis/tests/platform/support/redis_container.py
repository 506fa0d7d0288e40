"""A real Redis in a container, for tests to fill, freeze and empty."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

IMAGE = os.environ.get("REDIS_IMAGE", "redis:8.10.2-trixie")
COMMAND = ["redis-server", "--protected-mode", "no", "--save", ""]
TIMEOUT_S = 120.0


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    return done.stdout.strip()


@contextmanager
def running() -> Iterator[str]:
    """Run a Redis while the block runs; yield its container."""
    try:
        docker("info")
    except (OSError, subprocess.CalledProcessError):
        required = os.environ.get("CONTAINER_ENGINE_REQUIRED")
        (pytest.fail if required else pytest.skip)("a real Redis needs a container engine, and none answers")
    name = docker("run", "--detach", "--rm", "--publish", "127.0.0.1::6379", IMAGE, *COMMAND)
    try:
        yield name
    finally:
        docker("rm", "--force", name)


@contextmanager
def frozen(container: str) -> Iterator[None]:
    """Freeze a Redis while the block runs."""
    docker("pause", container)
    try:
        yield
    finally:
        docker("unpause", container)


def emptied(container: str) -> str:
    """Return `host:port` of the Redis in a container, empty, once it answers."""
    address = docker("port", container, "6379/tcp").splitlines()[0]
    patient = redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 100)
    with redis.Redis.from_url(f"redis://{address}", retry=patient) as client:
        client.flushall()
    return address
