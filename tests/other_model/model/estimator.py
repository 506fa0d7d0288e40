"""The classifier: a cultivar, and how probable each of the three is."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from serving.modeling import Answer, Dataset, Datatype, Fitted, Output

CULTIVARS = 3
SEED = 3

OUTPUTS = (
    Output("cultivar", Answer.LABEL, Datatype.INT64, description="The most probable cultivar, 0 to 2"),
    Output("probability", Answer.PROBABILITIES, shape=(CULTIVARS,), description="Of each cultivar"),
)


def fit(data: Dataset) -> Fitted:
    """Fit on three quarters of the rows, measure on the rest."""
    train, test = data.split(test_share=0.25, seed=SEED)
    estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train.frame(), train.target)
    return Fitted(estimator, {"seed": SEED}, {"accuracy": estimator.score(test.frame(), test.target)})
