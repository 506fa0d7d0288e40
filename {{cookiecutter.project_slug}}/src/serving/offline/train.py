"""Train, export, compare, register, pin: `make train`.

Registers a version only if the exported model agrees with the training framework on every row. The registry is the
local one, or the one in MODEL_REGISTRY. The version becomes champion and is pinned in model.lock, its lineage in
model.lineage.json; with `--no-promote` it is only registered. The same data and code keep their version.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from model.data import Dataset, load
from model.features import FEATURES
from model.predictor import Columns, predict, to_onnx
from model.signature import OUTPUTS
from model.train import Trained, train
from serving.domain.artifacts import GoldenRows, Manifest
from serving.domain.errors import ArtifactError
from serving.offline import project
from serving.offline.bootstrap import default_scheme, open_registry
from serving.offline.export import Export, register
from serving.offline.lineage import lineage_here
from serving.offline.model_version import current_user
from serving.offline.pinning import pin, served_digest
from serving.offline.registry import CHAMPION

_LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all steps and report each."""
    parser = argparse.ArgumentParser(prog="python -m serving.offline.train", description=__doc__)
    parser.add_argument("--no-promote", action="store_true", help="register the version and leave model.lock alone")
    options = parser.parse_args(arguments)
    registry = open_registry(default_scheme(), project.REGISTRY)
    before = registry.holder(project.service()["name"], CHAMPION)
    reference = register(registry, export(*fit()))
    print(f"registered {reference}")
    if not options.no_promote:
        registry.fetch(reference, project.ARTIFACTS)  # promote only what can be fetched and verified
        # `expect`: a version that became champion meanwhile is not overwritten.
        registry.promote(reference, CHAMPION, expect=before, by=current_user(), replaced=served_digest())
        pin(registry, reference, project.ARTIFACTS)
    return 0


def fit() -> tuple[Dataset, Trained]:
    """Load the data, train on it and print the metrics."""
    data = load()
    print(f"training on {len(data)} rows ...", flush=True)
    trained = train(data)
    print("  " + ", ".join(f"{name} {value}" for name, value in trained.metrics.items()))
    return data, trained


def export(data: Dataset, trained: Trained) -> Export:
    """Convert a trained model and collect its lineage; `export.py` compares both models."""
    service = project.service()
    libraries = {name: version(name) for name in _LIBRARIES}
    lineage = lineage_here(service["description"], _data_digest(data), trained.parameters, trained.metrics, libraries)
    manifest = Manifest(service["name"], "onnx", FEATURES, OUTPUTS)
    golden = functools.partial(_golden, data, trained)
    return Export(manifest, to_onnx(trained.estimator), golden, len(data), lineage)


def _golden(data: Dataset, trained: Trained, count: int) -> GoldenRows:
    """Pick evenly spread rows, with the trained estimator's outputs."""
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


def _data_digest(data: Dataset) -> str:
    """Hash keys, columns and target in a fixed order."""
    hashed = hashlib.sha256("\0".join(data.entities).encode())
    for name in sorted(data.columns):
        hashed.update(name.encode() + data.columns[name].tobytes())
    hashed.update(data.target.tobytes())
    return f"sha256={hashed.hexdigest()}"


if __name__ == "__main__":
    project.run(main)
