"""Serve a model with Ray Serve."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.arguments import asked
from benchmarks.peers.estimators import load

_LOGGING = {"enable_access_log": False}


@serve.deployment(num_replicas=1, max_ongoing_requests=100, logging_config=_LOGGING)
class Served:
    """Answer rows."""

    def __init__(self, models: str, model: str) -> None:
        self._predict = load(Path(models), model)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Call the model."""
        rows = np.array((await request.json())["rows"], np.float32)
        return {"answers": self._predict(rows).tolist()}


if __name__ == "__main__":
    arguments = asked()
    ray.init(include_dashboard=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": arguments.http_port}, logging_config=_LOGGING)
    serve.run(
        Served.bind(  # type: ignore[attr-defined]  # of the decorator
            str(arguments.models.resolve()), arguments.model
        )
    )
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
