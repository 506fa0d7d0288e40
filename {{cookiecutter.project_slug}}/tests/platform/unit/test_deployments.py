"""The history of deployments: what serves, what served before, what a crash leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from tools import deployments
from tools.deployments import Deployments, Kind, Target


@pytest.fixture
def history(folder: Path) -> Deployments:
    return Deployments(folder / "deployments.jsonl")


def deploy(history: Deployments, reference: str, kind: Kind = Kind.SERVING) -> Target:
    """Record a deployment of two replicas to its end."""
    target = history.begin(reference, 2)
    history.record(kind, target)
    history.record(Kind.FAILED if kind is Kind.FAILED else Kind.DONE, target)
    return target


def test_nothing_served_before_the_first_deployment(history: Deployments) -> None:
    assert history.current() is None
    assert history.before() is None


def test_a_failed_deployment_changes_neither_what_serves_nor_what_served_before(history: Deployments) -> None:
    deploy(history, "one")
    two = deploy(history, "two")
    deploy(history, "three", Kind.FAILED)
    assert history.current() == two
    assert history.before() == "one"


def test_each_rollback_goes_one_further_back(history: Deployments) -> None:
    for reference in ("one", "two", "three"):
        deploy(history, reference)
    deploy(history, "two", Kind.RETURNED)
    assert history.before() == "one"
    one = deploy(history, "one", Kind.RETURNED)
    assert history.current() == one
    assert history.before() is None


def test_a_version_that_served_twice_stands_before_the_one_between(history: Deployments) -> None:
    for reference in ("one", "two", "one"):
        deploy(history, reference)
    assert history.before() == "two"


def test_the_same_version_deployed_again_has_other_replicas_and_the_same_version_before_it(
    history: Deployments,
) -> None:
    for reference in ("one", "two", "two"):
        last = deploy(history, reference)
    assert history.current() == last
    assert history.before() == "one"


def test_a_deployment_interrupted_before_it_served_begins_anew(history: Deployments) -> None:
    deploy(history, "one")
    interrupted = history.begin("two", 2)
    assert history.begin("two", 2).deployment != interrupted.deployment


def test_a_deployment_interrupted_while_old_replicas_stop_is_continued(history: Deployments) -> None:
    deploy(history, "one")
    interrupted = history.begin("two", 2)
    history.record(Kind.SERVING, interrupted)
    assert history.begin("two", 3) == interrupted
    assert history.begin("three", 2) != interrupted


def test_a_line_that_a_crash_cut_off_is_forgotten(folder: Path, history: Deployments) -> None:
    one = deploy(history, "one")
    with (folder / "deployments.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "serv')
    assert history.current() == one
    two = deploy(history, "two")
    assert history.current() == two
    assert history.before() == "one"


def test_a_damaged_file_is_named_with_the_way_out(folder: Path, history: Deployments) -> None:
    (folder / "deployments.jsonl").write_text('{"kind": "sold"}\n', encoding="utf-8")
    with pytest.raises(OperatorError, match=r"deployments\.jsonl: a line is not one of a deployment .*remove the file"):
        history.current()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten a file beyond 50 lines; keep 20 versions, and 20 events after them."""
    monkeypatch.setattr(deployments, "_MAX_EVENTS", 50)
    monkeypatch.setattr(deployments, "_KEPT", 20)


def length(folder: Path) -> int:
    return len((folder / "deployments.jsonl").read_text(encoding="utf-8").splitlines())


@pytest.mark.usefixtures("short")
def test_a_long_history_is_shortened_and_every_rollback_still_finds_its_version(
    folder: Path, history: Deployments
) -> None:
    for _ in range(8):  # each time, a rollback returns from three to one
        for reference in ("two", "one", "three"):
            deploy(history, reference)
        deploy(history, "one", Kind.RETURNED)
        assert length(folder) <= 50
    back = []
    while (reference := history.before()) is not None:
        back.append(reference)
        deploy(history, reference, Kind.RETURNED)
    assert back == [*["two", "one"] * 7, "two"]


@pytest.mark.usefixtures("short")
def test_failed_deployments_never_push_out_what_served(folder: Path, history: Deployments) -> None:
    deploy(history, "one")
    two = deploy(history, "two")
    for number in range(40):
        deploy(history, f"failed-{number}", Kind.FAILED)
        assert length(folder) <= 50
    assert history.current() == two
    assert history.before() == "one"


@pytest.mark.usefixtures("short")
def test_a_shortened_history_still_says_that_old_replicas_are_to_be_stopped(history: Deployments) -> None:
    for number in range(30):
        interrupted = history.begin(f"version-{number}", 2)
        history.record(Kind.SERVING, interrupted)
        assert history.begin(f"version-{number}", 2) == interrupted
        history.record(Kind.DONE, interrupted)
        assert history.begin(f"version-{number}", 2) != interrupted
    assert history.before() == "version-28"
