"""Ask a running server for a prediction on rows whose answer is known: `make predict`."""

from __future__ import annotations

import argparse
import os
import sys

from scripts import project
from serving.artifacts import Artifact, artifact_folder, open_artifact
from serving.settings import load_settings
from serving_client import Client, Prediction, ServingClientError

_TIMEOUT_S = 10.0
_DEFAULT_TARGET = "localhost:8001"


def main(arguments: list[str] | None = None) -> int:
    """Ask for the golden rows of the served version; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.predict", description=__doc__)
    parser.add_argument("--target", default=os.environ.get("SERVING_TARGET", _DEFAULT_TARGET), help="host:port")
    parser.add_argument("--timeout", type=float, default=_TIMEOUT_S, help="seconds (default %(default)s)")
    options = parser.parse_args(arguments)
    target = options.target
    settings = load_settings()
    reference = settings.reference()
    artifact = open_artifact(artifact_folder(settings.artifacts, reference.digest), reference.digest)
    try:
        with Client(target, model=reference.model) as client:
            prediction = ask(client, artifact, timeout=options.timeout)
    except ServingClientError as error:
        print(f"error: {target}: {error}; is the server running? (`make run`)", file=sys.stderr)
        return 1
    show(prediction, artifact)
    return 0


def ask(client: Client, artifact: Artifact, *, timeout: float) -> Prediction:
    """Send what the server's own metadata says it takes: entity keys where it has a feature store, else all values."""
    entity = artifact.manifest.features.entity.name
    known = {entity: list(artifact.golden.entities), **artifact.golden.inputs}
    inputs = client.metadata(timeout=timeout).inputs
    return client.predict({spec.name: known[spec.name] for spec in inputs}, timeout=timeout)


def show(prediction: Prediction, artifact: Artifact) -> None:
    """Print each answer beside the one that the training framework gave."""
    for spec in artifact.manifest.outputs:
        print(f"{'row':16} {spec.name:>14} {'as trained':>14}")
        expected = artifact.golden_outputs()[spec.name]
        for entity, answer, trained in zip(artifact.golden.entities, prediction[spec.name], expected, strict=True):
            print(f"{entity:16} {answer!s:>14} {trained!s:>14}")
    print(f"answered by {prediction.model} version {prediction.model_version}, {prediction.artifact_digest}")
    if prediction.defaulted:
        print(f"defaults stood in for {', '.join(prediction.defaulted)}; fill the feature store with `make features`")


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
