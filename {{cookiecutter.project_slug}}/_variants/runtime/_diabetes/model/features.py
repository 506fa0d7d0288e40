"""What the model receives: static features by patient, measurements with the request, and what derives from both."""

from __future__ import annotations

from serving.modeling import Derived, Entity, Feature, FeatureSet, Missing, Operation

FEATURES = FeatureSet(
    entity=Entity("patient_id", "Key of the patient, such as patient-001"),
    # Read from the feature store by patient_id. Where the store has no value, the default answers (the median of the
    # training data), or the value that the server read last; every such answer says so. Values older than max_age_days
    # are counted in the metric serving_feature_stale. (The synthetic visits are of 2003, so theirs are.)
    static=(
        Feature("age", "years", "Age", default=50.0, max_age_days=400),
        Feature("sex", "1 or 2", "Sex, as coded in the source", default=1.0),
        Feature("bmi", "kg/m2", "Body mass index", default=25.7, max_age_days=200, missing=Missing.LAST_KNOWN),
    ),
    # Sent with every request: known only at the moment of the call.
    real_time=(
        Feature("blood_pressure", "mmHg", "Average blood pressure"),
        Feature("total_cholesterol", "mg/dl", "Total serum cholesterol"),
        Feature("ldl", "mg/dl", "Low-density lipoproteins"),
        Feature("hdl", "mg/dl", "High-density lipoproteins"),
        Feature("cholesterol_ratio", "1", "Total cholesterol divided by HDL"),
        Feature("log_triglycerides", "log(mg/dl)", "Logarithm of serum triglycerides, possibly"),
        Feature("glucose", "mg/dl", "Blood sugar"),
    ),
    # Computed inside the exported model, on whole columns; nobody sends or stores them.
    derived=(
        Derived("pressure_by_bmi", Operation.MULTIPLY, "blood_pressure", "bmi", "mmHg kg/m2", "One times the other"),
    ),
)
