"""Train, export, compare, register, pin: `make train`.

Registers a version only if the exported model answers as the training framework does, on every row of the data. It goes
to the local registry, or to the one that MODEL_REGISTRY names. Then the version becomes champion and is written to
model.lock, so that it is the one served; with `--no-promote` it is only registered.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from model.data import Dataset, load
from model.features import FEATURES
from model.predictor import Columns, predict, to_onnx
from model.signature import OUTPUTS
from model.train import Trained, train
from scripts import exported, project
from scripts.git import commit
from scripts.model_version import pin_champion, who
from scripts.registries import default_scheme, open_registry
from serving.artifacts import GoldenRows, Lineage, Manifest
from serving.errors import ArtifactError
from serving.references import Reference
from serving.registry import CHAMPION

_LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all steps; each says what it does."""
    parser = argparse.ArgumentParser(prog="python -m scripts.train", description=__doc__)
    parser.add_argument("--no-promote", action="store_true", help="register the version and leave model.lock alone")
    options = parser.parse_args(arguments)
    scheme, name = default_scheme(), project.service()["name"]
    before = open_registry(scheme, project.REGISTRY).holder(name, CHAMPION)
    data = load()
    print(f"training on {len(data)} rows ...")
    trained = train(data)
    print("  " + ", ".join(f"{name} {value}" for name, value in trained.metrics.items()))
    reference = register(data, trained)
    print(f"registered {reference}")
    if not options.no_promote:
        # Whoever became champion while this was training is not overwritten.
        open_registry(scheme, project.REGISTRY).promote(reference, CHAMPION, expect=before, by=who())
        pin_champion(reference)
    return 0


def register(data: Dataset, trained: Trained) -> Reference:
    """Export a trained model, check it on every row of the data, and register it."""
    service = project.service()
    manifest = Manifest(service["name"], service["description"], "onnx", FEATURES, OUTPUTS, _lineage(data, trained))
    model = to_onnx(trained.estimator)
    registry = open_registry(default_scheme(), project.REGISTRY)
    return exported.register(registry, manifest, model, lambda count: _golden(data, trained, count), len(data))


def _golden(data: Dataset, trained: Trained, count: int) -> GoldenRows:
    """Take rows evenly spread over the data, with the trained estimator's own answers."""
    rows = np.linspace(0, len(data) - 1, count, dtype=int)
    columns: Columns = {feature.name: data.columns[feature.name][rows] for feature in FEATURES.model_inputs}
    answers = predict(trained.estimator, columns)
    missing = [spec.name for spec in OUTPUTS if spec.name not in answers]
    if missing:
        raise ArtifactError(f"model/predictor.py: predict() gives no {missing[0]}, which model/signature.py declares.")
    return GoldenRows(
        tuple(data.entities[row] for row in rows),
        {name: column.tolist() for name, column in columns.items()},
        {spec.name: answers[spec.name].tolist() for spec in OUTPUTS},
    )


def _lineage(data: Dataset, trained: Trained) -> Lineage:
    libraries = {name: version(name) for name in _LIBRARIES}
    return Lineage(commit(project.ROOT), _data_digest(data), trained.parameters, trained.metrics, libraries)


def _data_digest(data: Dataset) -> str:
    """Hash keys, columns and target in a fixed order."""
    hashed = hashlib.sha256("\0".join(data.entities).encode())
    for name in sorted(data.columns):
        hashed.update(name.encode() + data.columns[name].tobytes())
    hashed.update(data.target.tobytes())
    return f"sha256={hashed.hexdigest()}"


if __name__ == "__main__":
    project.run(main)
