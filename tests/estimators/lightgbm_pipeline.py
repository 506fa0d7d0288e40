"""LightGBM's regressor behind an encoder of text."""

from __future__ import annotations

from lightgbm import LGBMRegressor
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from serving.modeling import Dataset, Fitted, Output

SIZE = ColumnTransformer([("size", OneHotEncoder(sparse_output=False), ["size"])], remainder="passthrough")

OUTPUTS = (Output("malignancy"),)


def fit(data: Dataset) -> Fitted:
    malignant = (data.target == "malignant").astype(float)
    return Fitted(make_pipeline(SIZE, LGBMRegressor(n_estimators=30, verbose=-1)).fit(data.frame(), malignant))
