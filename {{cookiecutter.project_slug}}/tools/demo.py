"""Demonstrate the whole path: `make demo` serves a model on a free port and predicts the golden rows.

It serves the pinned version if this machine can get it; otherwise it trains one. All files go to build/demo:
model.lock, model.lineage.json, registry/ and the feature store do not change. SERVING_ settings are ignored.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from serving.adapters.model_registry.local import SCHEME as LOCAL
from serving.domain.artifacts import Artifact, open_artifact
from serving.domain.errors import OperatorError
from serving.domain.references import Reference, find_lock, write_lock
from serving.domain.settings import default_store_url
from serving.offline import project, user_model
from serving.offline.bootstrap import fetch, open_registry
from serving.online.settings import Settings
from tools import predict

_PLACE = Path("build/demo")
_STOP_S = 20.0
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Shown:
    """The served version: a verified artifact in a digest-addressed folder."""

    reference: Reference
    artifacts: Path
    artifact: Artifact
    pinned: bool


def main() -> int:
    """Run the demo; return the exit code."""
    shutil.rmtree(_PLACE, ignore_errors=True)
    for name in [name for name in os.environ if name.startswith(("SERVING_", "MODEL_"))]:
        del os.environ[name]
    shown = pinned() or own()
    os.environ["SERVING_FEATURE_STORE"] = fill_store()
    ports = [name for name in Settings.model_fields if name.endswith("_port")]
    with_port = {f"SERVING_{name.upper()}": "0" for name in (*ports, "drain")}
    model = {"MODEL_VERSION": str(shown.reference), "SERVING_ARTIFACTS": str(shown.artifacts)}
    answers(shown, os.environ | with_port | model)
    return 0


def pinned() -> Shown | None:
    """Return the pinned version; if it can't be served, print why and return None."""
    try:
        reference = find_lock(project.LOCK)
        if reference is None:
            return None
        registry = open_registry(reference.scheme, project.REGISTRY)
        artifact = open_artifact(fetch(reference, registry, project.ARTIFACTS), reference.digest)
    except OperatorError as error:
        print(f"{error}\nSo this demo trains its own version.", flush=True)
        return None
    if artifact.manifest.features != user_model.features():
        print(f"model/features.py has changed since {reference} was trained: this demo trains its own version.")
        return None
    return Shown(reference, project.ARTIFACTS, artifact, pinned=True)


def own() -> Shown:
    """Train a version into build/demo."""
    training = importlib.import_module("serving.offline.train")  # imported late: it takes seconds
    registry = open_registry(LOCAL, _PLACE / "registry")
    reference = training.register(registry, training.export(training.fit()))
    print(f"registered {reference} in {_PLACE}/registry")
    write_lock(_PLACE / project.LOCK.name, reference)
    artifacts = _PLACE / "artifacts"
    artifact = open_artifact(fetch(reference, registry, artifacts), reference.digest)
    return Shown(reference, artifacts, artifact, pinned=False)


def fill_store() -> str:
    """Fill a feature store in build/demo, if this repo has one; return its URL."""
    default = default_store_url()
    scheme, _, path = default.partition(":")
    if not path:
        return default
    shutil.copytree("config", _PLACE / "config")  # a store's configuration may have relative paths
    url = f"{scheme}:{_PLACE / path}"
    os.environ["SERVING_FEATURE_STORE"] = url
    importlib.import_module("serving.offline.materialize").main([])
    return url


def answers(shown: Shown, environment: Mapping[str, str]) -> None:
    """Serve a version, predict its golden rows, stop it.

    :raises OperatorError: it does not start, or a version trained just now gives other outputs than in training
    """
    print(f"starting the server of {shown.reference} on a free port ...", flush=True)
    server = subprocess.Popen([sys.executable, "-m", "serving"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        target = f"localhost:{_port(cast('IO[str]', server.stderr))}"
        print(f"asking {target} ...", flush=True)
        try:
            predict.ask(target, shown.reference, shown.artifact, timeout=_TIMEOUT_S)
        except predict.AnswersDiffer as error:
            if not shown.pinned:
                raise
            print(f"{error} The data in model/ has changed since this version was trained.")
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=_STOP_S)


def _port(log: IO[str]) -> int:
    """Return the port from the server's log; the end of the log ends the wait."""
    lines = []
    for line in log:
        lines.append(line)
        record = json.loads(line) if line.startswith("{") else {}
        if "grpc_port" in record:
            return int(record["grpc_port"])
    raise OperatorError("the server did not start; it said: " + "".join(lines[-3:]).strip())


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
