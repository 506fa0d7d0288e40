"""CatBoost, with labels in text."""

from __future__ import annotations

from catboost import CatBoostClassifier

from serving.modeling import Answer, Dataset, Datatype, Fitted, Output

OUTPUTS = (
    Output("diagnosis", Answer.LABEL, Datatype.TEXT),
    Output("chances", Answer.PROBABILITIES, shape=(2,)),
)


def fit(data: Dataset) -> Fitted:
    return Fitted(
        CatBoostClassifier(iterations=30, verbose=0, allow_writing_files=False).fit(data.frame(), data.target)
    )
