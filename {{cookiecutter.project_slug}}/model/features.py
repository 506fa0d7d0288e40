"""What the model is given: static features by patient, and measurements that come with the request.

Add a feature here, give it a column in `data.py`, train, and it is part of the service's signature.
"""

from __future__ import annotations

from serving.features import Entity, Feature, FeatureSet

FEATURES = FeatureSet(
    entity=Entity("patient_id", "Key of the patient, such as patient-001"),
    # Read from the feature store by patient_id. The defaults are the medians of the training data; they answer for
    # patients whom the store does not know, and every such answer says so.
    static=(
        Feature("age", "years", "Age", default=50.0),
        Feature("sex", "1 or 2", "Sex, as coded in the source", default=1.0),
        Feature("bmi", "kg/m2", "Body mass index", default=25.7),
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
)
