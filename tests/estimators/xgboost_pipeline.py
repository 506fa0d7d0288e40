"""XGBoost behind an encoder of text."""

from __future__ import annotations

from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from xgboost import XGBClassifier

from serving.modeling import Answer, Dataset, Datatype, Fitted, Output

SIZE = ColumnTransformer([("size", OneHotEncoder(sparse_output=False), ["size"])], remainder="passthrough")

OUTPUTS = (
    Output("diagnosis", Answer.LABEL, Datatype.TEXT, labels=("benign", "malignant")),
    Output("malignancy", Answer.PROBABILITIES, of=1),
)


def fit(data: Dataset) -> Fitted:
    malignant = (data.target == "malignant").astype(int)
    return Fitted(make_pipeline(SIZE, XGBClassifier(n_estimators=30)).fit(data.frame(), malignant))
