"""What the classifier answers: a cultivar, and how probable each of the three is."""

from __future__ import annotations

from serving.domain.tensors import ROWS, Datatype, TensorSpec

CULTIVARS = 3

OUTPUTS = (
    TensorSpec("cultivar", Datatype.INT64, description="The most probable cultivar, 0 to 2"),
    TensorSpec("probability", Datatype.FP32, (ROWS, CULTIVARS), description="Of each cultivar"),
)
