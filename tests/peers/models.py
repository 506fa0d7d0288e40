"""Fit models on data sets that scikit-learn bundles, and save them as MLServer and MLflow serve them.

Runs in the environment of MLflow (tests/peers/environments.py), with the folder to fill as its one argument. The
folders of MLServer have the models' names; `mlflow/` has MLflow's. The rows of each data set are in a CSV file.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import joblib
import mlflow.sklearn
import mlflow.xgboost
import xgboost
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SKLEARN, XGBOOST = "mlserver_sklearn.SKLearnModel", "mlserver_xgboost.XGBoostModel"


def main(folder: Path) -> None:
    """Write all models and rows."""
    cancer, diabetes, wine = load_breast_cancer(as_frame=True), load_diabetes(as_frame=True), load_wine(as_frame=True)
    samples, patients, bottles = cancer.data.astype("float32"), diabetes.data, wine.data.astype("float32")
    for name, frame in (("cancer", samples), ("diabetes", patients), ("wine", bottles)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([list(frame), *frame.to_numpy().tolist()])
    words = cancer.target_names[cancer.target]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(samples, words)
    regressor = LinearRegression().fit(patients.to_numpy(), diabetes.target)
    trees = xgboost.XGBClassifier(n_estimators=20, max_depth=3).fit(bottles, wine.target)
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 3}, xgboost.DMatrix(samples, cancer.target), num_boost_round=10
    )
    joblib.dump(pipeline, _settings(folder, "tumor", SKLEARN) / "model.joblib")
    joblib.dump(regressor, _settings(folder, "progression", SKLEARN) / "model.joblib")
    trees.save_model(_settings(folder, "cultivar", XGBOOST) / "model.json")
    booster.save_model(_settings(folder, "risk", XGBOOST) / "model.ubj")
    mlflow.sklearn.save_model(
        pipeline, folder / "mlflow" / "tumor", serialization_format="cloudpickle", pip_requirements=[]
    )
    mlflow.sklearn.save_model(
        regressor, folder / "mlflow" / "progression", serialization_format="cloudpickle", pip_requirements=[]
    )
    mlflow.xgboost.save_model(trees, folder / "mlflow" / "cultivar", pip_requirements=[])


def _settings(folder: Path, name: str, implementation: str) -> Path:
    place = folder / "mlserver" / name
    place.mkdir(parents=True)
    settings = {"name": name, "implementation": implementation}
    (place / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return place


if __name__ == "__main__":
    main(Path(sys.argv[1]))
