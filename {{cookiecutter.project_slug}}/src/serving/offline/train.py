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

import numpy as np

from serving.domain.artifacts import GoldenRows, Manifest
from serving.modeling import Dataset
from serving.offline import project, user_model
from serving.offline.bootstrap import default_scheme, open_registry
from serving.offline.converters import libraries, summary
from serving.offline.estimators import answers, as_json
from serving.offline.export import Export, register
from serving.offline.exporting import FORMAT, LIBRARIES, export_model
from serving.offline.lineage import lineage_here
from serving.offline.model_version import current_user
from serving.offline.pinning import pin, served_digest
from serving.offline.registry import CHAMPION


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all steps and report each."""
    parser = argparse.ArgumentParser(prog="python -m serving.offline.train", description=__doc__)
    parser.add_argument("--no-promote", action="store_true", help="register the version and leave model.lock alone")
    options = parser.parse_args(arguments)
    registry = open_registry(default_scheme(), project.REGISTRY)
    before = registry.holder(project.service()["name"], CHAMPION)
    reference = register(registry, export(fit()))
    print(f"registered {reference}")
    if not options.no_promote:
        registry.fetch(reference, project.ARTIFACTS)  # promote only what can be fetched and verified
        # `expect`: a version that became champion meanwhile is not overwritten.
        registry.promote(reference, CHAMPION, expect=before, by=current_user(), replaced=served_digest())
        pin(registry, reference, project.ARTIFACTS)
    return 0


def fit() -> user_model.Training:
    """Load the data, train on it and print the metrics."""
    data = user_model.dataset()
    print(f"training on {len(data)} rows ...", flush=True)
    training = user_model.train(data)
    print("  " + ", ".join(f"{name} {value:.4g}" for name, value in training.fitted.metrics.items()))
    return training


def export(training: user_model.Training) -> Export:
    """Export a trained model and collect its lineage; `export.py` compares both models.

    :raises OperatorError: the estimator can't be exported, or an output does not fit it
    """
    data, fitted, service = training.data, training.fitted, project.service()
    golden = functools.partial(_golden, training)
    golden(1)  # an output that does not fit the estimator is reported before a fault of the converter
    model = export_model(training)
    metrics = {name: round(value, 4) for name, value in fitted.metrics.items()}
    parameters = {"estimator": summary(fitted.estimator), **fitted.parameters}
    lineage = lineage_here(
        service["description"], _data_digest(data), parameters, metrics, libraries(fitted.estimator, LIBRARIES)
    )
    outputs = tuple(output.spec for output in training.outputs)
    return Export(Manifest(service["name"], FORMAT, training.features, outputs), model, golden, len(data), lineage)


def _golden(training: user_model.Training, count: int) -> GoldenRows:
    """Pick evenly spread rows, with the trained estimator's outputs."""
    data = training.data.take(np.linspace(0, len(training.data) - 1, count, dtype=int))
    answered = answers(training.fitted.estimator, training.outputs, data.frame())
    return GoldenRows(
        data.entities,
        {feature.name: as_json(data.columns[feature.name]) for feature in training.features.model_inputs},
        {name: as_json(values) for name, values in answered.items()},
    )


def _data_digest(data: Dataset) -> str:
    """Hash keys, columns and target in a fixed order."""
    hashed = hashlib.sha256("\0".join(data.entities).encode())
    for name, column in [*sorted(data.columns.items()), ("", data.target)]:
        content = "\0".join(map(str, column.flat)).encode() if column.dtype.hasobject else column.tobytes()
        hashed.update(name.encode() + content)
    return f"sha256={hashed.hexdigest()}"


if __name__ == "__main__":
    project.run(main)
