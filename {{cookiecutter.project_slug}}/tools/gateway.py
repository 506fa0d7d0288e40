"""The gateway's addresses on this machine, and the replicas that it knows."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.domain.errors import OperatorError
from tools import engine

_SERVICE = "gateway"
_GRPC, _METRICS = "8001/tcp", "8002/tcp"
_RENAMED = {"GRPC_PORTS": ("GRPC_PORT", "8001", "8101-8164"), "METRICS_PORTS": ("METRICS_PORT", "8002", "8201-8264")}
_LOOK_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 2.0
_POLL_S = 0.2
_UP = re.compile(r'^haproxy_server_status{proxy="(\w+)",server="replica(\d+)",state="UP"} 1$', re.MULTILINE)


@dataclass(frozen=True)
class Gateway:
    """A running gateway's addresses on this machine; empty if it publishes none."""

    grpc: str
    metrics: str

    def up(self, backend: str) -> list[int]:
        """Return the numbers of the replicas that get calls (`servers`), or whose metrics it has (`metrics`)."""
        try:
            with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=_READ_TIMEOUT_S) as page:
                found = _UP.findall(page.read().decode())
        except OSError:
            return []
        return sorted(int(number) for name, number in found if name == backend)


def find(timeout: float = _LOOK_TIMEOUT_S) -> Gateway | None:
    """Return this repo's gateway, if it runs and Docker says so in time."""
    name = engine.project_name()
    if not name:
        return None
    labels = (f"project={name}", f"service={_SERVICE}", "oneoff=False")
    filters = [f"--filter=label=com.docker.compose.{label}" for label in labels]
    try:
        listed = engine.run(["docker", "ps", "--quiet", "--no-trunc", *filters], None, timeout).split()
        if not listed:
            return None
        described: list[dict[str, Any]] = json.loads(
            engine.run(["docker", "inspect", "--type", "container", listed[0]], None, timeout)
        )
    except OperatorError:
        return None
    ports = described[0]["NetworkSettings"]["Ports"] or {}
    return Gateway(_published(ports, _GRPC), _published(ports, _METRICS))


def await_replicas(count: int, backend: str, timeout: float) -> list[int]:
    """Wait until the gateway knows this many replicas; return those that it knows, at the latest after `timeout`."""
    deadline = time.monotonic() + timeout
    gateway = find()
    if gateway is None or not gateway.metrics:
        return []
    while len(known := gateway.up(backend)) != count and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return known


def refuse_renamed(chosen: Mapping[str, str]) -> None:
    """Refuse a port of a .env from before there was a gateway; values that `make up` wrote itself are ignored.

    :raises OperatorError: the user chose a port by the old name, and none by the new one
    """
    for old, (new, *written) in _RENAMED.items():
        value = chosen.get(old, "")
        if value and value not in written and not chosen.get(new):
            port = value.partition("-")[0]
            raise OperatorError(f"{old}={value} is no longer read; write {new}={port} to .env instead.")


def _published(ports: Mapping[str, Sequence[Mapping[str, str]] | None], port: str) -> str:
    places = ports.get(port) or []
    return f"{places[0]['HostIp']}:{places[0]['HostPort']}" if places else ""
