"""A real Prometheus beside a stack, in the image that the repo builds."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.containers.stack import TIMEOUT_S, Stack

PORT = "19090"
_PAUSE_S = 0.5


class Prometheus:
    """The service `prometheus` of a stack, which scrapes and evaluates every second here."""

    def __init__(self, stack: Stack) -> None:
        config = stack.repo.path / "monitoring" / "prometheus.yml"
        quick = config.read_text(encoding="utf-8").replace("15s", "1s").replace("timeout: 10s", "timeout: 1s")
        config.write_text(quick, encoding="utf-8")
        started = stack.compose(
            *("--profile", "monitoring", "up", "--detach", "--build", "--wait", "prometheus"), PROMETHEUS_PORT=PORT
        )
        assert started.returncode == 0, started.stderr
        self._stack = stack
        (self._container,) = stack.containers("prometheus")

    def tool(self, *words: str) -> str:
        """Run promtool in the container; return what it printed."""
        return self._stack.inside(self._container, "promtool", *words)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the samples that a query finds now."""
        found: list[dict[str, Any]] = json.loads(
            self.tool("query", "instant", "--format", "json", "http://localhost:9090", query)
        )
        return found

    def wait_for(self, query: str) -> list[dict[str, Any]]:
        """Ask until a query finds samples, however long the machine takes."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := self.ask(query)):
            assert time.monotonic() < deadline, f"{query}: never found a sample"
            time.sleep(_PAUSE_S)
        return found


def dashboard(stack: Stack) -> list[str]:
    """Return the queries of the dashboard; `$name` in them is an input or output."""
    content = json.loads(stack.repo.text("monitoring/grafana/dashboards/service.json"))
    (variable,) = content["templating"]["list"]
    assert variable["query"] == "label_values(serving_values_trained_share, name)"
    return [target["expr"] for panel in content["panels"] for target in panel["targets"]]
