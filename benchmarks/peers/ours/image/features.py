"""What the model receives: an image."""

from __future__ import annotations

from serving.modeling import Entity, Feature, FeatureSet

SHAPE = (224, 224, 3)
FEATURES = FeatureSet(
    entity=Entity("image"),
    static=(),
    real_time=(Feature("x", "1", "Pixels from 0 to 1", shape=SHAPE),),
)
