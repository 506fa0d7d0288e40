"""The files for containers pass hadolint, Compose's schema and shellcheck."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import CHOICES, PAIRED, ROOT, SAMPLE, Repo, combination_id, run, tool

STORES = CHOICES["feature_store"]
PINNED = {"MODEL_VERSION": "local:any/1", "COMPOSE_PROJECT_NAME": "any"}


@pytest.mark.parametrize("feature_store", STORES)
def test_hadolint_accepts_the_dockerfile(generated: Callable[..., Repo], feature_store: str) -> None:
    tool("hadolint", "Dockerfile", cwd=generated(feature_store=feature_store).path)


def test_hadolint_accepts_the_dockerfiles_of_gateway_and_monitoring(generated: Callable[..., Repo]) -> None:
    for folder in ("gateway", "monitoring"):
        tool("hadolint", f"{folder}/Dockerfile", cwd=generated().path)


@pytest.mark.parametrize("feature_store", STORES)
def test_the_compose_files_match_their_schema(generated: Callable[..., Repo], feature_store: str) -> None:
    repo = generated(feature_store=feature_store)
    files = ["compose.yaml", *(str(path.relative_to(repo.path)) for path in (repo.path / "compose").glob("*.yaml"))]
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files, cwd=repo.path)


@pytest.mark.long
def test_compose_reads_every_set_of_files(generated: Callable[..., Repo]) -> None:
    if shutil.which("docker") is None:
        required = os.environ.get("CONTAINER_ENGINE_REQUIRED")
        (pytest.fail if required else pytest.skip)("docker is not installed")
    repos = [generated(**choices) for choices in PAIRED]
    # Many combinations have the same set; each set is read once.
    sets = {tuple((str(path), repo.text(str(path))) for path in compose_files(repo)): repo for repo in repos}
    assert len(sets) >= max(len(choices) for choices in CHOICES.values())
    for repo in sets.values():
        for names in (["compose.yaml"], ["compose.yaml", "compose/dev.yaml"]):
            files = [word for name in names for word in ("--file", name)]
            command = ["docker", "compose", "--profile", "*", *files, "config", "--quiet"]
            done = run(command, cwd=repo.path, environment=os.environ | PINNED)
            assert (done.returncode, done.stderr) == (0, ""), f"{names} of {repo.path}"


def compose_files(repo: Repo) -> list[Path]:
    return [path for path in repo.files() if path.suffix == ".yaml" and path.parts[0] in {"compose.yaml", "compose"}]


@pytest.mark.parametrize("choices", SAMPLE, ids=combination_id)
def test_every_part_of_the_images_has_a_support_date(generated: Callable[..., Repo], choices: dict[str, str]) -> None:
    done = generated(**choices).command("support", "--today", "2026-11-27")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nothing is overdue")


def test_shellcheck_accepts_our_scripts() -> None:
    tool("shellcheck", ".ci/run", cwd=ROOT)
