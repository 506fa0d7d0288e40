"""What the classifier is given: what the cellar knows of a cask, and what the laboratory measured just now."""

from __future__ import annotations

from serving.modeling import Datatype, Entity, Feature, FeatureSet

FEATURES = FeatureSet(
    entity=Entity("cask", "Key of the cask, such as C17"),
    static=(
        Feature("alcohol", "% vol", "Alcohol at the last inspection", default=13.0, max_age_days=90),
        Feature("inspections", "1", "Inspections so far", datatype=Datatype.INT64),
    ),
    real_time=(
        Feature("flavanoids", "g/l", "Flavanoids", datatype=Datatype.FP64),
        Feature("proline", "mg/l", "Proline", datatype=Datatype.INT64),
        Feature("hue", "1", "Hue and intensity of the colour", shape=(2,)),
    ),
)
