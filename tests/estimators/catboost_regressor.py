"""CatBoost's regressor."""

from __future__ import annotations

from catboost import CatBoostRegressor

from serving.modeling import Dataset, Fitted, Output

OUTPUTS = (Output("malignancy"),)


def fit(data: Dataset) -> Fitted:
    malignant = (data.target == "malignant").astype(float)
    return Fitted(CatBoostRegressor(iterations=30, verbose=0, allow_writing_files=False).fit(data.frame(), malignant))
