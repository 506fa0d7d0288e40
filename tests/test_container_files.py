"""What a repo runs in containers with is well-formed by the judgement of the tools that its readers trust."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from tests.support import CHOICES, ROOT, Repo, run, tool

STORES = CHOICES["feature_store"]
PINNED = {"MODEL_VERSION": "local:any/1", "DEV_USER": "1000:1000"}


@pytest.mark.parametrize("feature_store", STORES)
def test_hadolint_finds_nothing_in_the_dockerfile(generated: Callable[..., Repo], feature_store: str) -> None:
    tool("hadolint", "Dockerfile", cwd=generated(feature_store=feature_store).path)


@pytest.mark.parametrize("feature_store", STORES)
def test_the_compose_files_fit_their_schema(generated: Callable[..., Repo], feature_store: str) -> None:
    repo = generated(feature_store=feature_store)
    files = ["compose.yaml", *(str(path.relative_to(repo.path)) for path in (repo.path / "compose").glob("*.yaml"))]
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files, cwd=repo.path)


@pytest.mark.parametrize("feature_store", STORES)
@pytest.mark.parametrize("more", [(), ("compose/publish.yaml",), ("compose/publish.yaml", "compose/dev.yaml")])
def test_compose_reads_every_set_of_files(
    generated: Callable[..., Repo], feature_store: str, more: tuple[str, ...]
) -> None:
    if shutil.which("docker") is None:
        required = os.environ.get("CONTAINER_ENGINE_REQUIRED")
        (pytest.fail if required else pytest.skip)("docker is not installed")
    repo = generated(feature_store=feature_store)
    files = [word for name in ("compose.yaml", *more) for word in ("--file", name)]
    command = ["docker", "compose", *files, "config", "--quiet"]
    done = run(command, cwd=repo.path, environment=os.environ | PINNED)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_shellcheck_finds_nothing_in_our_scripts() -> None:
    tool("shellcheck", ".ci/run", cwd=ROOT)
