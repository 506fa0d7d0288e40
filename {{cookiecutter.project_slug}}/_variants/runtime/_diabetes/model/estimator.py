"""The estimator: what it answers, and how it is fitted."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from serving.modeling import Dataset, Fitted, Output

SEED = 7

OUTPUTS = (
    Output(
        "progression",
        unit="score",
        description="Disease progression one year after the measurements, 25 to 346 in the training data",
    ),
)


def fit(data: Dataset) -> Fitted:
    """Fit on 80 % of the rows, measure on the rest."""
    train, test = data.split(test_share=0.2, seed=SEED)
    estimator = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-2, 3, 26)))
    estimator.fit(train.frame(), train.target)
    predicted = estimator.predict(test.frame())
    return Fitted(
        estimator,
        parameters={"alpha": estimator[-1].alpha_, "seed": SEED},
        metrics={
            "r2": r2_score(test.target, predicted),
            "mean_absolute_error": mean_absolute_error(test.target, predicted),
        },
    )
