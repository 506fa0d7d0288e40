from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import sizing
from serving.domain.errors import OperatorError


def figures(*points: tuple[float, float]) -> dict[str, object]:
    """Return what the bench writes, of calls per second and CPU seconds a call."""
    return {"by_clock": [{"rate": rate, "cpu": cost} for rate, cost in points]}


STEADY = figures((1_000, 0.0005))
# A call alone costs more than one of many: 0.1, 0.2, 0.4 and 0.8 cores.
WAKING = figures((800, 0.001), (50, 0.002), (100, 0.002), (250, 0.0016))


@pytest.mark.parametrize(("rate", "cores"), [(50, 0.1), (25, 0.05), (175, 0.3), (800, 0.8), (1_200, 1.2)])
def test_what_is_used_is_read_between_and_beyond_the_measured_loads(rate: float, cores: float) -> None:
    replica = sizing.replica_of(WAKING)
    assert replica.used(rate) == pytest.approx(cores)
    assert replica.rate(cores) == pytest.approx(rate)


def test_noise_that_says_that_a_higher_load_uses_less_is_left_out() -> None:
    replica = sizing.replica_of(figures((50, 0.004), (100, 0.0015), (400, 0.001)))
    assert replica.used(100) == replica.used(50) == pytest.approx(0.2)
    assert replica.used(400) == pytest.approx(0.4)


@pytest.mark.parametrize(("rate", "replicas"), [(10, 2), (2_000, 2), (2_600, 2), (2_601, 3), (10_000, 8)])
def test_replicas_follow_from_the_share_of_a_core_that_is_planned(rate: float, replicas: int) -> None:
    replica = sizing.replica_of(STEADY)
    needed = sizing.count(rate, replica.rate(sizing.UTILIZATION))
    assert needed == replicas
    assert replica.used(rate / needed) <= sizing.UTILIZATION


@pytest.mark.parametrize(
    ("more", "first", "rows", "last"),
    [
        (
            [],
            "a call of one row takes 500 us of CPU; a replica is planned for 1,300 a second",
            [["2,000", "2", "2", "1,024", "50%"], ["10,000", "8", "8", "4,096", "62%"]],
            "planned for 65% of 1 core, and at least 2 replicas",
        ),
        (
            ["--cores", "0.5"],
            "a call of one row takes 500 us of CPU; a replica is planned for 650 a second",
            [["2,000", "4", "2", "2,048", "50%"], ["10,000", "16", "8", "8,192", "62%"]],
            "planned for 65% of 0.5 core, and at least 2 replicas",
        ),
    ],
    ids=["one core", "half a core"],
)
def test_the_table_has_the_loads_that_were_asked_for(
    more: list[str],
    first: str,
    rows: list[list[str]],
    last: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sizing, "FIGURES", folder / "figures.json")
    sizing.FIGURES.write_text(json.dumps(STEADY), encoding="utf-8")
    assert sizing.main(["--rate", "2000", "10000", *more]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == first
    assert [line.split() for line in printed[3:5]] == rows
    assert printed[-1] == last


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "does not exist; run `make bench` first"),
        ("{", "can't be read; run `make bench` again"),
        ("[]", "can't be read; run `make bench` again"),
        ('{"by_clock": []}', "can't be read; run `make bench` again"),
        ('{"by_callers": [{}]}', "can't be read; run `make bench` again"),
    ],
    ids=["none", "cut off", "no figures", "empty", "of an earlier version"],
)
def test_figures_that_are_none_are_refused(folder: Path, text: str | None, says: str) -> None:
    if text is not None:
        (folder / "figures.json").write_text(text, encoding="utf-8")
    with pytest.raises(OperatorError, match=says):
        sizing.read(folder / "figures.json")


def test_figures_of_another_system_have_no_cpu_time() -> None:
    with pytest.raises(OperatorError, match="the figures have no CPU time, which only Linux gives"):
        sizing.replica_of(figures((50, 0.0), (100, float("nan"))))


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        *(("--rate", value, "must be a number of calls per second above 0") for value in ("0", "-1", "nan", "inf")),
        *(("--cores", value, "must be above 0 and at most 1") for value in ("0", "2", "nan")),
    ],
)
def test_a_number_that_can_not_be_is_refused(
    option: str, value: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        sizing.main([option, value])
    assert says in capsys.readouterr().err
