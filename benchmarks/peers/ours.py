"""Repos generated from this template, as peers of the others: one entry for each set of answers."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.calls import PeerError
from benchmarks.peers.catalog import BUILD, HERE, ROOT, Ports, Program, reason
from benchmarks.peers.forms import GRPC, Endpoint
from benchmarks.peers.models import FOREST, IMAGE, LINEAR, NAME
from tools.environment import Environment
from tools.process import SetupError, quietly

_ANSWERS = {"project_slug": NAME, "feature_store": "none", "model_registry": "local"}
_FILES = HERE / "ours"


@dataclass(frozen=True)
class Ours:
    """A generated repo; each model is a version in it."""

    name: str
    title: str
    answers: Mapping[str, str]
    models: tuple[str, ...] = (LINEAR, FOREST, IMAGE)
    edits: str = ""
    """The folder in ours/ that is laid over the repo."""
    note: str = "default settings: validation, metrics and logs on"
    endpoints: tuple[Endpoint, ...] = (Endpoint("gRPC", GRPC),)

    @property
    def _repo(self) -> Path:
        return BUILD / self.name / NAME

    @property
    def _environment(self) -> Environment:
        return Environment(self._repo / ".venv")

    def install(self) -> None:
        """Generate the repo, train each model, fetch it.

        :raises PeerError: a step fails
        """
        python = self._environment.python
        tasks = [sys.executable, str(self._repo / "tools" / "tasks.py")]
        try:
            print("generating it and training its models ...", flush=True)
            self._generate()
            if self.edits:
                shutil.copytree(_FILES / self.edits, self._repo, dirs_exist_ok=True)
            for model in self.models:
                shutil.copytree(_FILES / model, self._repo / "model", dirs_exist_ok=True)
                quietly([*tasks, "train"], f"{model} can't be trained")
                shutil.copy(self._repo / "model.lock", self._lock(model))
                with contextlib.chdir(self._repo):
                    fetch = [str(python), "-m", "serving.offline.model_version", "fetch"]
                    quietly(fetch, f"{model} can't be fetched", os.environ | self._variables(model))
        except SetupError as error:
            raise PeerError(reason(str(error))) from None

    def _generate(self) -> None:
        """Generate the repo anew; its environment stays."""
        kept = self._repo.with_name("environment")
        if self._environment.folder.exists():
            self._environment.folder.rename(kept)
        shutil.rmtree(self._repo, ignore_errors=True)
        answers = [f"{question}={answer}" for question, answer in {**_ANSWERS, **self.answers}.items()]
        options = ["--no-input", "--default-config", "--output-dir", str(self._repo.parent)]
        command = [sys.executable, "-m", "cookiecutter", *options, str(ROOT), *answers]
        quietly(command, "the template can't be generated")
        if kept.exists():
            kept.rename(self._environment.folder)

    def program(self, model: str, ports: Ports) -> Program:
        """Return how to serve a model."""
        variables = {
            **self._variables(model),
            "SERVING_GRPC_PORT": str(ports.grpc),
            "SERVING_METRICS_PORT": str(ports.metrics),
        }
        return Program((str(self._environment.python), "-m", "serving"), self._repo, variables)

    def _lock(self, model: str) -> Path:
        return self._repo / f"{model}.lock"

    def _variables(self, model: str) -> dict[str, str]:
        _, _, version = self._lock(model).read_text(encoding="utf-8").strip().partition("=")
        return {"MODEL_VERSION": version}


OURS = (
    Ours("ours-onnx", "generated repo, ONNX Runtime", {"runtime": "onnx", "grpc_transport": "grpcio"}),
    Ours("ours-native", "generated repo, ONNX Runtime, native", {"runtime": "onnx", "grpc_transport": "native"}),
    Ours(
        "ours-python",
        "generated repo, scikit-learn",
        {"runtime": "python", "grpc_transport": "grpcio"},
        models=(LINEAR, FOREST),
        edits="trusting",
    ),
)
"""The first is what the others are compared with."""
