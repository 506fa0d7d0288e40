"""XGBoost, which takes NaN as it is and wants numbers as classes."""

from __future__ import annotations

from xgboost import XGBClassifier

from serving.modeling import Answer, Dataset, Datatype, Fitted, Output

OUTPUTS = (
    Output("diagnosis", Answer.LABEL, Datatype.TEXT, labels=("benign", "malignant")),
    Output("malignancy", Answer.PROBABILITIES, of=1),
)


def fit(data: Dataset) -> Fitted:
    malignant = (data.target == "malignant").astype(int)
    return Fitted(XGBClassifier(n_estimators=30).fit(data.frame(), malignant))
