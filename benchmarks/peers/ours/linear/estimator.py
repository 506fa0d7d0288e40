"""The estimator: a logistic regression, as in benchmarks/peers/models.py."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression

from serving.modeling import Answer, Dataset, Fitted, Output

OUTPUTS = (Output("probabilities", Answer.PROBABILITIES, shape=(3,)),)


def fit(data: Dataset) -> Fitted:
    """Fit on all rows."""
    return Fitted(LogisticRegression(max_iter=10_000, tol=1e-9).fit(data.frame().astype("float64"), data.target))
