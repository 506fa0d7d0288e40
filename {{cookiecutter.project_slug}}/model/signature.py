"""What the model answers; what it is asked follows from `features.py`."""

from __future__ import annotations

from serving.domain.tensors import Datatype, TensorSpec

OUTPUTS = (
    TensorSpec(
        "progression",
        Datatype.FP32,
        unit="score",
        description="Disease progression one year after the measurements, 25 to 346 in the training data",
    ),
)
