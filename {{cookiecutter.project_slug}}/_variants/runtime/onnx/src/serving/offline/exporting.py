"""Export a trained model to ONNX."""

from __future__ import annotations

from serving.offline.convert import to_onnx
from serving.offline.user_model import Training

FORMAT = "onnx"
LIBRARIES = ("numpy", "onnx", "onnxruntime", "skl2onnx")
"""Packages whose versions are part of each lineage, besides those that the estimator comes from."""


def export_model(training: Training) -> bytes:
    """Return the model's file.

    :raises OperatorError: there is no converter for a part of the estimator
    """
    return to_onnx(training.fitted.estimator, training.features, training.outputs, training.data.frame())
