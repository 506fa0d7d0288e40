"""Predict the golden rows with a running server: `make predict`.

Exits with 1 and one sentence if the server serves another version than the pinned one, or if its outputs differ from
those in training.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import cast

import numpy as np

from serving.domain.artifacts import Artifact, open_artifact
from serving.domain.errors import OperatorError
from serving.domain.golden import agreeing
from serving.domain.references import Reference
from serving.domain.settings import shared_settings
from serving.domain.tensors import Datatype, Tensor, TensorSpec
from serving.offline import project
from serving.offline.bootstrap import fetch, open_registry
from serving_client import Client, DeadlineExceeded, Prediction, ServingClientError, Unavailable
from tools import gateway

_TIMEOUT_S = 10.0
_PROBE_S = 2.0


class AnswersDiffer(OperatorError):
    """The server's outputs differ from those in training."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict the golden rows of the pinned version; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.predict", description=__doc__)
    parser.add_argument("--target", help="host:port (default: this repo's containers if they run, else localhost:8001)")
    parser.add_argument("--timeout", type=float, default=_TIMEOUT_S, help="seconds (default %(default)s)")
    options = parser.parse_args(arguments)
    settings = shared_settings()
    reference = settings.reference()
    registry = open_registry(reference.scheme, project.REGISTRY)
    artifact = open_artifact(fetch(reference, registry, settings.artifacts), reference.digest)
    ask(options.target or default_target(), reference, artifact, timeout=options.timeout)
    return 0


def default_target() -> str:
    """Return the default target: the containers of `make up`, else the server of `make run`."""
    if target := os.environ.get("SERVING_TARGET"):
        return target
    found = gateway.find()
    return found.grpc if found and found.grpc else "localhost:8001"


def ask(target: str, reference: Reference, artifact: Artifact, *, timeout: float) -> None:
    """Print the server's output for each golden row beside the one in training.

    :raises OperatorError: the call fails, or the output is not that of this version
    """
    with Client(target, model=reference.model) as client:
        try:
            metadata = client.metadata(timeout=timeout)
            check_version(target, reference, metadata.properties.get("reference", "an unknown version"))
            keys = np.array(artifact.golden.entities, object)
            known = {artifact.manifest.features.entity.name: keys, **artifact.golden_inputs()}
            sent = {spec.name: known[spec.name] for spec in metadata.inputs}
            prediction = client.predict(sent, timeout=timeout)
        except ServingClientError as error:
            raise OperatorError(f"{target}: {_explained(client, error, min(timeout, _PROBE_S))}.") from None
    show(prediction, artifact)
    check_answers(target, prediction, artifact, looked_up=sorted(artifact.golden.inputs.keys() - sent.keys()))


def show(prediction: Prediction, artifact: Artifact) -> None:
    """Print each output beside the one of the training framework."""
    for spec in artifact.manifest.outputs:
        print(f"{'row':16} {spec.name:>14} {'as trained':>14}")
        expected = _expected(artifact, spec)
        for entity, answer, trained in zip(artifact.golden.entities, prediction[spec.name], expected, strict=True):
            print(f"{entity:16} {_on_one_line(answer):>14} {_on_one_line(trained):>14}")
    text = f"answered by {prediction.model} version {prediction.model_version}, {prediction.artifact_digest}"
    print(text, flush=True)  # before an error message


def _expected(artifact: Artifact, spec: TensorSpec) -> Tensor:
    """Return an output as the client returns it: text as `str`."""
    expected = artifact.golden_outputs()[spec.name]
    return cast("Tensor", _TO_TEXT(expected)) if spec.datatype is Datatype.TEXT else expected


_TO_TEXT = np.frompyfunc(bytes.decode, 1, 1)


def _on_one_line(value: object) -> str:
    return " ".join(str(value).split())


def check_version(target: str, reference: Reference, served: str) -> None:
    """Refuse a server with another artifact than the pinned one."""
    if served.partition("#")[2] != reference.digest:
        raise OperatorError(
            f"{target}: serves {served}, but {reference} is pinned here; "
            "`make deploy` updates the containers, a new `make run` a server on this machine."
        )


def check_answers(target: str, prediction: Prediction, artifact: Artifact, *, looked_up: Sequence[str]) -> None:
    """Compare the outputs with those in training; looked-up features may have changed since."""
    golden = artifact.golden
    alike = np.ones(len(golden.entities), np.bool_)
    for spec in artifact.manifest.outputs:
        alike &= agreeing(prediction[spec.name], _expected(artifact, spec), spec, golden)
    if alike.all():
        return
    first = golden.entities[int(np.flatnonzero(~alike)[0])]
    text = f"{target}: {np.sum(~alike)} of {len(alike)} answers differ from those of training, the first for {first}"
    if stood_in := sorted({*prediction.defaulted, *prediction.last_known}):
        text += f"; the feature store has no value of {', '.join(stood_in)}: fill it with `make features`"
    elif looked_up:
        text += f"; the feature store has other values of {', '.join(looked_up)} than the training data had"
    raise AnswersDiffer(f"{text}.")


def _explained(client: Client, error: ServingClientError, timeout: float) -> str:
    """Return what failed and the way out."""
    text = str(error).rstrip(".")
    if not isinstance(error, Unavailable | DeadlineExceeded):
        return text
    try:
        health = client.health(timeout=timeout)
    except ServingClientError:
        return "no server answers there; `make run` starts one, `make up` starts one in containers"
    if health == "SERVING":
        return text
    return f"the server is up, but says {health}: it has no model to answer with; its log says why"


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
