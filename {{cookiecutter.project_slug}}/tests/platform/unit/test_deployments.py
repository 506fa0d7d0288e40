"""The history of deployments: what serves, what served before, what a crash leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
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
