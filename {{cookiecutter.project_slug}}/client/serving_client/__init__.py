"""Get predictions from a served model.

    from serving_client import Client

    with Client("localhost:8001") as client:
        prediction = client.predict({"input": [1.0, 2.0]}, timeout=1.0)
        prediction["output"], prediction.model_version

You need no knowledge of gRPC or protobuf. `AsyncClient` is the client for asyncio. All errors derive from
`ServingClientError`. `serving_client.testing` has fakes of both clients for your tests.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .channel import Tls
    from .client import Client
    from .errors import (
        AccessDenied,
        Cancelled,
        DeadlineExceeded,
        InvalidRequest,
        NotFound,
        Overloaded,
        ServerFault,
        ServingClientError,
        Unavailable,
    )
    from .model import ModelMetadata, Prediction, TensorMetadata

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "InvalidRequest",
    "ModelMetadata",
    "NotFound",
    "Overloaded",
    "Prediction",
    "ServerFault",
    "ServingClientError",
    "TensorMetadata",
    "Tls",
    "Unavailable",
]

_MODULES = {"AsyncClient": "aio", "Client": "client", "Tls": "channel"}
_MODULES |= {"ModelMetadata": "model", "Prediction": "model", "TensorMetadata": "model"}


def __getattr__(name: str) -> object:
    """Import a public name on first use: a health check must not import NumPy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES.get(name, 'errors')}", __name__), name)
