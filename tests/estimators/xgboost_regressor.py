"""XGBoost's regressor."""

from __future__ import annotations

from xgboost import XGBRegressor

from serving.modeling import Dataset, Fitted, Output

OUTPUTS = (Output("malignancy"),)


def fit(data: Dataset) -> Fitted:
    malignant = (data.target == "malignant").astype(float)
    return Fitted(XGBRegressor(n_estimators=30).fit(data.frame(), malignant))
