"""What the model receives: the four numbers of an iris, as one array."""

from __future__ import annotations

from serving.modeling import Entity, Feature, FeatureSet

FEATURES = FeatureSet(
    entity=Entity("iris"),
    static=(),
    real_time=(Feature("x", "cm", "Length and width of sepal and petal", shape=(4,)),),
)
