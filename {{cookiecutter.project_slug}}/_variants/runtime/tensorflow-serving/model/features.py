"""What the model receives: one image of a handwritten digit."""

from __future__ import annotations

from serving.modeling import Entity, Feature, FeatureSet

FEATURES = FeatureSet(
    entity=Entity("image_id", "Key of the image, such as digit-0001"),
    # Nothing here changes rarely enough to be stored: an image is known only at the moment of the call.
    static=(),
    real_time=(Feature("image", "0 to 1", "Grey values, 8 x 8 pixels, one channel", shape=(8, 8, 1)),),
)
