"""The commands on the model registry pages work, in the order of the page."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.registries.mlflow_server import mlflow_server
from tests.registries.neptune_server import PROJECT, WORKSPACE, neptune_server, token
from tests.support import Repo, blocks, generate, run

SLUG = "diabetes-progression"
SETTINGS = "run: with the values of a test's server"
NOT_HERE = {
    "neptune": ["not run here: the template's tests/test_import.py runs it on files of an export"],
    "mlflow": ["not run: needs a container engine; the template's tests/containers runs these commands"],
}


@contextmanager
def neptune(folder: Path) -> Iterator[Mapping[str, str]]:
    with neptune_server() as address:
        yield {"NEPTUNE_API_TOKEN": token(address), "NEPTUNE_PROJECT": f"{WORKSPACE}/{PROJECT}"}


@contextmanager
def mlflow(folder: Path) -> Iterator[Mapping[str, str]]:
    with mlflow_server(folder) as uri:
        yield {"MLFLOW_TRACKING_URI": uri, "MLFLOW_INSIDE_URI": uri}


SERVERS: Mapping[str, Callable[[Path], AbstractContextManager[Mapping[str, str]]]] = {
    "neptune": neptune,
    "mlflow": mlflow,
}
# The stand-in speaks plain http, on this machine only.
SURROUNDINGS = {"OAUTHLIB_INSECURE_TRANSPORT": "1"}


def page(repo: Repo) -> str:
    return repo.text("docs/model-registry.md")


def typed(repo: Repo) -> list[str]:
    """Return the commands of the page's table, in order."""
    return re.findall(r"^\|[^|\n]+\| `(make [^`]+)`", page(repo), re.MULTILINE)


@pytest.mark.parametrize("registry", SERVERS)
def test_blocks_that_are_not_run_say_why(generated: Callable[..., Repo], registry: str) -> None:
    notes = [block.note for block in blocks(page(generated(model_registry=registry))) if block.note != SETTINGS]
    assert notes == NOT_HERE[registry]


@pytest.mark.long
@pytest.mark.parametrize("registry", SERVERS)
def test_the_commands_of_the_page_work(template: Path, tmp_path: Path, registry: str) -> None:
    repo = generate(template, tmp_path / "out", {"model_registry": registry, "feature_store": "none"})
    repo.passes("train")  # a version in the local registry, before a server is configured
    (tmp_path / "server").mkdir()
    with SERVERS[registry](tmp_path / "server") as values:
        (block,) = [block for block in blocks(page(repo)) if block.note == SETTINGS]
        settings = {"MODEL_REGISTRY": registry, **values}
        assert set(re.findall(r"^export (\w+)=", block.text, re.MULTILINE)) == set(settings)
        environment = os.environ | SURROUNDINGS | settings | {"PYTHON": sys.executable}
        commands = typed(repo)
        assert commands[0] == "make train"
        said = {}
        for command in ["make train", *commands]:
            train_anew(repo)
            # The page describes a model with more versions.
            done = run(
                ["sh", "-c", re.sub(r"my-model/\d", f"{SLUG}/1", command)], cwd=repo.path, environment=environment
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            said[command] = done.stdout
    assert f"{registry}:{SLUG}/2#sha256=" in said["make versions"]
    assert f"{registry}:{SLUG}/1" in said[f'make promote ARGS="{registry}:my-model/2"']
    assert f"{registry}:{SLUG}/2" in repo.text("model.lock")
    assert f"{registry}:{SLUG}/3#" in said[f'make versions ARGS="copy local:my-model/3 {registry}"']


def train_anew(repo: Repo) -> None:
    """Make the next training give another model."""
    estimator = repo.path / "model" / "estimator.py"
    text = estimator.read_text(encoding="utf-8")
    estimator.write_text(re.sub(r"SEED = (\d+)", lambda seed: f"SEED = {int(seed[1]) + 1}", text), encoding="utf-8")
