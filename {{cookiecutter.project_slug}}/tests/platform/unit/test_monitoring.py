"""The files in monitoring/ fit each other, the page and the server's metrics. Prometheus' own tool tests the alerts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.domain.distributions import Distributions
from serving.domain.references import Reference
from serving.offline.drift import CLEAR, LEAST_ROWS
from serving.online.telemetry import Metrics
from serving.online.value_counts import ValueCounts

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "monitoring"
DASHBOARD = FOLDER / "grafana" / "dashboards" / "service.json"
OF_OTHERS = {"ALERTS", "serving_quality_loss"}
"""What Prometheus itself gives, and `make evaluate`: test_predictions.py reads its file."""


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Return recording rules (`record`) or alerts (`alert`) by name; a name may be recorded once only."""
    found: dict[str, dict[str, Any]] = {}
    for file in ("recording.yml", "alerts.yml"):
        for group in yaml.safe_load((FOLDER / file).read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if kind in rule:
                    assert rule[kind] not in found
                    found[rule[kind]] = rule
    return found


def queries() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def series() -> set[str]:
    """Return the names of all series on a server's page."""
    metrics = Metrics.create()
    metrics.registry.register(ValueCounts(Reference("local", "m", "1", "sha256=0"), [], [], Distributions()))
    kinds = {"counter": ("_total",), "histogram": ("_count", "_sum", "_bucket")}
    return {
        f"{family.name}{suffix}" for family in metrics.registry.collect() for suffix in kinds.get(family.type, ("",))
    }


@pytest.mark.parametrize("alert", rules("alert"))
def test_each_alert_has_a_runbook_a_severity_and_a_test_in_which_it_fires(alert: str) -> None:
    rule = rules("alert")[alert]
    assert rule["labels"]["severity"] in ("page", "ticket")
    page, _, heading = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^### (\w+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert alert in headings
    assert heading == alert.lower()
    tests = yaml.safe_load((FOLDER / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"] if case["alertname"] == alert]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


def test_the_page_has_no_other_runbook() -> None:
    _, _, section = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8").partition("\n## Runbooks\n")
    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == list(rules("alert"))


def test_rules_and_dashboard_read_what_the_server_exports_or_a_rule_records() -> None:
    known = series() | set(rules("record")) | OF_OTHERS
    expressions = [*queries(), *(rule["expr"] for kind in ("record", "alert") for rule in rules(kind).values())]
    for expression in expressions:
        named = re.findall(r"\b(?:serving[_:][\w:]+|grpc_\w+|ALERTS)\b", re.sub(r'"[^"]*"', "", expression))
        named = [name for name in named if name != "grpc_code" and name != "grpc_method"]
        assert named, expression
        assert set(named) <= known, expression


def test_the_command_and_the_rules_agree_on_drift() -> None:
    assert f"> {CLEAR}" in rules("alert")["ServingValuesDrift"]["expr"]
    assert rules("record")["serving:drift:psi"]["expr"].count(f">= {LEAST_ROWS}") == 2


def test_each_panel_of_the_dashboard_asks_the_provisioned_prometheus() -> None:
    provisioned = FOLDER / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(provisioned.read_text(encoding="utf-8"))["datasources"]
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
