"""A rollout ends with the new replicas or with the old ones, and with no others; a list is the STAND-IN for Docker."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from tests.platform.support.containers import Containers
from tools.deployments import Deployments, Kind
from tools.rollout import Rollout


@pytest.fixture
def history(folder: Path) -> Deployments:
    return Deployments(folder / "deployments.jsonl")


def deploy(containers: Containers, history: Deployments, version: str) -> None:
    """Deploy two replicas of a version, to the end."""
    containers.version = version
    rollout = Rollout(history, containers.fetch, containers.start)
    rollout.finish(rollout.converge(version, 2, overlap_s=0))


def versions(containers: Containers) -> list[str]:
    return [replica.version for replica in containers.there]


def test_new_replicas_replace_the_old_ones(containers: Containers, history: Deployments) -> None:
    deploy(containers, history, "one")
    deploy(containers, history, "two")
    assert versions(containers) == ["two", "two"]
    assert containers.kept_by_fetch == "one"


def test_the_same_version_is_started_anew(containers: Containers, history: Deployments) -> None:
    deploy(containers, history, "one")
    before = list(containers.there)
    deploy(containers, history, "one")
    assert versions(containers) == ["one", "one"]
    assert not set(before) & set(containers.there)


@pytest.mark.parametrize("times", [1, 4])
def test_a_deployment_that_fails_leaves_the_old_replicas_and_no_others(
    containers: Containers, history: Deployments, times: int
) -> None:
    deploy(containers, history, "one")
    before = list(containers.there)
    containers.fails = OperatorError("a new replica is unhealthy.")
    for _ in range(times):
        with pytest.raises(
            OperatorError, match=r"two was not deployed: a new .* unhealthy\. 2 replica\(s\) of one serve"
        ):
            deploy(containers, history, "two")
        assert containers.there == before
    current = history.current()
    assert current is not None
    assert current.reference == "one"


def test_an_interrupted_deployment_leaves_the_old_replicas_and_no_others(
    containers: Containers, history: Deployments
) -> None:
    deploy(containers, history, "one")
    before = list(containers.there)
    containers.fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        deploy(containers, history, "two")
    assert containers.there == before


def test_what_a_killed_deployment_started_is_removed_by_the_next(containers: Containers, history: Deployments) -> None:
    deploy(containers, history, "one")
    before = list(containers.there)
    containers.add(2, "two", history.begin("two", 2).deployment)
    containers.fails = OperatorError("unhealthy")
    with pytest.raises(OperatorError):
        deploy(containers, history, "three")
    assert containers.there == before
    containers.add(2, "two", history.begin("two", 2).deployment)
    containers.fails = None
    deploy(containers, history, "two")
    assert versions(containers) == ["two", "two"]


def test_a_deployment_killed_while_old_replicas_stopped_is_finished_without_new_ones(
    containers: Containers, history: Deployments
) -> None:
    deploy(containers, history, "one")
    target = history.begin("two", 2)
    containers.add(2, "two", target.deployment)
    history.record(Kind.SERVING, target)
    new = containers.there[-2:]
    deploy(containers, history, "two")
    assert containers.there == new


def test_without_a_history_the_healthy_replicas_are_the_service(containers: Containers, history: Deployments) -> None:
    containers.add(1, "one", "")
    containers.add(1, "one", "", health="unhealthy")
    before = containers.there[:1]
    containers.fails = OperatorError("unhealthy")
    with pytest.raises(OperatorError, match=r"1 replica\(s\) of one serve on"):
        deploy(containers, history, "two")
    assert containers.there == before


def test_replicas_that_start_are_not_removed_where_none_is_healthy(
    containers: Containers, history: Deployments
) -> None:
    containers.add(2, "one", "", health="starting")
    assert Rollout(history, containers.fetch, containers.start).remove_strays() == containers.there
    assert len(containers.there) == 2
