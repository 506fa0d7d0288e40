from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import sizing
from serving.domain.errors import OperatorError


def figures(*costs: float) -> dict[str, object]:
    return {"by_callers": [{"count": number, "ours": {"cpu": cost}} for number, cost in enumerate(costs, 1)]}


def test_a_call_costs_what_it_costs_at_worst() -> None:
    assert sizing.cost_of(figures(0.0002, 0.0005, 0.0003)) == 0.0005


@pytest.mark.parametrize(
    ("rate", "replicas"), [(10, 2), (2_000, 2), (2_600, 2), (2_601, 3), (10_000, 8)], ids=lambda value: str(value)
)
def test_replicas_follow_from_the_share_of_a_core_that_is_planned(rate: float, replicas: int) -> None:
    needed = sizing.size(rate, 0.0005)
    assert needed.replicas == replicas
    assert needed.used <= sizing.UTILIZATION
    assert needed.used == pytest.approx(rate * 0.0005 / replicas)


def test_the_table_has_the_loads_that_were_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sizing, "FIGURES", folder / "figures.json")
    sizing.FIGURES.write_text(json.dumps(figures(0.0005)), encoding="utf-8")
    assert sizing.main(["--rate", "2000", "10000"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "a call of one row takes 500 us of CPU; a replica answers at most 2,000 a second"
    assert [line.split() for line in printed[3:5]] == [
        ["2,000", "2", "2", "1,024", "50%"],
        ["10,000", "8", "8", "4,096", "62%"],
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "does not exist; run `make bench` first"),
        ("{", "can't be read; run `make bench` again"),
        ("[]", "can't be read; run `make bench` again"),
        ('{"by_callers": []}', "can't be read; run `make bench` again"),
    ],
    ids=["none", "cut off", "no figures", "empty"],
)
def test_figures_that_are_none_are_refused(folder: Path, text: str | None, says: str) -> None:
    if text is not None:
        (folder / "figures.json").write_text(text, encoding="utf-8")
    with pytest.raises(OperatorError, match=says):
        sizing.read(folder / "figures.json")


def test_figures_of_another_system_have_no_cpu_time() -> None:
    with pytest.raises(OperatorError, match="the figures have no CPU time, which only Linux gives"):
        sizing.cost_of(figures(0.0, 0.0))


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf"])
def test_a_rate_that_is_none_is_refused(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sizing.main(["--rate", rate])
    assert "must be a number of calls per second above 0" in capsys.readouterr().err
