"""What serves beside gRPC: the Open Inference Protocol's REST API."""

from __future__ import annotations

from collections.abc import Sequence

from serving.online.admission import Admission
from serving.online.entrypoint import Entrypoint
from serving.online.inference import Service
from serving.online.rest.server import RestServer
from serving.online.settings import Settings
from serving.online.telemetry import Metrics


def open_entrypoints(
    settings: Settings, service: Service, admission: Admission, metrics: Metrics
) -> Sequence[Entrypoint]:
    """Return what serves beside gRPC."""
    return (RestServer(settings, service, admission, metrics),)
