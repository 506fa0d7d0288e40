"""Serve a model with `mlflow models serve`; `python -m benchmarks.peers.mlflow.serve` saves it in MLflow's format."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import joblib
import mlflow.pyfunc
import mlflow.sklearn

from benchmarks.peers.arguments import asked
from benchmarks.peers.estimators import file_of, mean
from benchmarks.peers.models import IMAGE, Array

_SAVED = Path("saved")


class Images(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # in its own environment
    """Answer images."""

    def predict(self, context: Any, model_input: Array, params: Any = None) -> Array:
        """Call the model."""
        return mean(model_input)


if __name__ == "__main__":
    arguments = asked()
    shutil.rmtree(_SAVED, ignore_errors=True)
    if arguments.model == IMAGE:
        from benchmarks.peers.mlflow.serve import Images as Importable  # not of __main__, which no other process has

        mlflow.pyfunc.save_model(_SAVED, python_model=Importable(), pip_requirements=[])
    else:
        estimator = joblib.load(file_of(arguments.models, arguments.model))
        options = {"serialization_format": "cloudpickle", "pip_requirements": []}
        mlflow.sklearn.save_model(estimator, _SAVED, pyfunc_predict_fn="predict_proba", **options)
    scripts = Path(sys.executable).parent
    os.environ |= {
        "PATH": os.pathsep.join([str(scripts), os.environ["PATH"]]),  # it starts uvicorn by its name
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    words = ["models", "serve", "--model-uri", str(_SAVED), "--env-manager", "local", "--host", "127.0.0.1"]
    command = [str(scripts / "mlflow"), *words, "--port", str(arguments.http_port)]
    os.execv(command[0], command)  # noqa: S606 - a fixed list of words
