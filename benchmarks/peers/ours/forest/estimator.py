"""The estimator: a random forest, as in benchmarks/peers/models.py."""

from __future__ import annotations

from sklearn.ensemble import RandomForestClassifier

from serving.modeling import Answer, Dataset, Fitted, Output

OUTPUTS = (Output("probabilities", Answer.PROBABILITIES, shape=(3,)),)


def fit(data: Dataset) -> Fitted:
    """Fit on all rows."""
    return Fitted(RandomForestClassifier(100, random_state=0).fit(data.frame().astype("float64"), data.target))
