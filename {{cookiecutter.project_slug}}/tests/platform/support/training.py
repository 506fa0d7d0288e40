"""Models trained in this process, on all or part of the data."""

from __future__ import annotations

from dataclasses import replace

from model.data import Dataset, load
from model.train import train
from serving.domain.references import Reference
from serving.offline import project
from serving.offline import train as training
from serving.offline.bootstrap import open_registry


def fewer(rows: int) -> Dataset:
    """Return the training data without its last rows."""
    data = load()
    columns = {name: column[:-rows] for name, column in data.columns.items()}
    return replace(data, entities=data.entities[:-rows], columns=columns, target=data.target[:-rows])


def registered(data: Dataset) -> Reference:
    """Train on some data and register the model."""
    return training.register(open_registry("local", project.REGISTRY), training.export(data, train(data)))
