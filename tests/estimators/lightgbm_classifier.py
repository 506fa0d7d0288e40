"""LightGBM, with labels in text."""

from __future__ import annotations

from lightgbm import LGBMClassifier

from serving.modeling import Answer, Dataset, Datatype, Fitted, Output

OUTPUTS = (
    Output("diagnosis", Answer.LABEL, Datatype.TEXT),
    Output("chances", Answer.PROBABILITIES, shape=(2,)),
)


def fit(data: Dataset) -> Fitted:
    return Fitted(LGBMClassifier(n_estimators=30, verbose=-1).fit(data.frame(), data.target))
