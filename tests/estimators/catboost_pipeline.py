"""CatBoost behind an encoder of text."""

from __future__ import annotations

from catboost import CatBoostClassifier
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from serving.modeling import Answer, Dataset, Datatype, Fitted, Output

SIZE = ColumnTransformer([("size", OneHotEncoder(sparse_output=False), ["size"])], remainder="passthrough")

OUTPUTS = (
    Output("diagnosis", Answer.LABEL, Datatype.TEXT),
    Output("chances", Answer.PROBABILITIES, shape=(2,)),
)


def fit(data: Dataset) -> Fitted:
    return Fitted(
        make_pipeline(SIZE, CatBoostClassifier(iterations=30, verbose=0, allow_writing_files=False)).fit(
            data.frame(), data.target
        )
    )
