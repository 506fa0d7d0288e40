"""What `make up`, `deploy` and `rollback` do to containers and model.lock; a list is the STAND-IN for Docker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from serving.domain.references import Reference, read_lock
from serving.offline import model_version, project
from serving.offline.bootstrap import open_registry
from serving.offline.registry import CHAMPION
from tests.platform.contract.model_registry_contract import registered
from tests.platform.support.containers import Containers
from tools import containers as commands
from tools import engine
from tools.deployments import Deployments
from tools.rollout import Rollout

Make = Callable[..., None]


@pytest.fixture
def make(folder: Path, containers: Containers, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that runs a command of `make` in a repo without containers."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(project, "ROOT", folder)
    monkeypatch.setattr(project, "LOCK", folder / "model.lock")
    monkeypatch.setattr(project, "REGISTRY", folder / "registry")
    monkeypatch.setattr(project, "ARTIFACTS", folder / "artifacts")
    monkeypatch.setattr(engine, "run", containers.run)
    monkeypatch.setattr(engine, "installed", lambda: True)
    monkeypatch.setattr(engine, "watched", lambda: False)
    for name in ("MODEL_VERSION", "SCALE", "DEPLOYMENT"):
        monkeypatch.delenv(name, raising=False)

    def run(command: str, *words: str) -> None:
        assert commands.main([command, "--overlap=0", *words]) == 0

    return run


def trained(folder: Path, number: int) -> Reference:
    """Register a version and pin it, as training does."""
    reference = registered(open_registry("local", project.REGISTRY), folder, number)
    assert model_version.main(["promote", str(reference)]) == 0
    assert read_lock(folder / "model.lock") == reference
    return reference


def champion(folder: Path) -> str:
    return open_registry("local", folder / "registry").holder("tiny", CHAMPION)


def versions(containers: Containers) -> list[str]:
    return [replica.version for replica in containers.there]


def test_a_rollback_returns_to_the_version_that_served_before(folder: Path, containers: Containers, make: Make) -> None:
    one = trained(folder, 1)
    make("up", "--scale=2")
    trained(folder, 2)
    make("deploy")
    make("rollback")
    assert versions(containers) == [str(one), str(one)]
    assert read_lock(folder / "model.lock") == one
    assert champion(folder) == "1"
    with pytest.raises(OperatorError, match="1#sha256=.* is the first version that these containers served"):
        make("rollback")


def test_a_rollback_never_goes_to_a_version_that_was_trained_and_not_served(
    folder: Path, containers: Containers, make: Make
) -> None:
    one = trained(folder, 1)
    make("up")
    trained(folder, 2)
    trained(folder, 3)
    make("deploy")
    make("rollback")
    assert versions(containers) == [str(one)]
    assert read_lock(folder / "model.lock") == one
    assert champion(folder) == "1"


def test_a_rollback_after_a_failed_deployment_pins_what_serves_and_replaces_no_container(
    folder: Path, containers: Containers, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    one = trained(folder, 1)
    make("up", "--scale=2")
    before = list(containers.there)
    trained(folder, 2)
    containers.fails = OperatorError("a new replica is unhealthy.")
    with pytest.raises(OperatorError, match="was not deployed"):
        make("deploy")
    make("rollback")
    assert containers.there == before
    assert read_lock(folder / "model.lock") == one
    assert champion(folder) == "1"
    assert f"{one} serves on: 2 replica(s), none was replaced" in capsys.readouterr().out


def test_a_rollback_replaces_what_serves_if_a_replica_of_it_is_unhealthy(
    folder: Path, containers: Containers, make: Make
) -> None:
    one = trained(folder, 1)
    make("up", "--scale=2")
    trained(folder, 2)
    (sick, _) = containers.there
    containers.there[0] = replace(sick, health="unhealthy")
    before = list(containers.there)
    make("rollback")
    assert versions(containers) == [str(one), str(one)]
    assert not set(before) & set(containers.there)


def test_without_containers_a_rollback_returns_to_the_version_promoted_before(
    folder: Path, containers: Containers, make: Make
) -> None:
    one = trained(folder, 1)
    trained(folder, 2)
    make("rollback")
    assert read_lock(folder / "model.lock") == one
    assert containers.there == []


def test_a_rollback_with_words_is_one_of_the_registry_and_is_deployed(
    folder: Path, containers: Containers, make: Make
) -> None:
    trained(folder, 1)
    make("up")
    two = trained(folder, 2)
    trained(folder, 3)
    make("rollback", "--stage", CHAMPION)
    assert read_lock(folder / "model.lock") == two
    assert versions(containers) == [str(two)]


@pytest.mark.parametrize("changed", ["image", "config"])
def test_a_changed_image_or_configuration_is_rolled_out_beside_the_old_replicas(
    folder: Path, containers: Containers, make: Make, changed: str
) -> None:
    trained(folder, 1)
    make("up", "--scale=2")
    before = list(containers.there)
    setattr(containers, changed, "another")
    make("up", "--scale=2")
    assert "recreate" not in containers.commands
    assert containers.others == ["gateway"], "with the server, Compose would stop it"
    assert len(containers.there) == 2
    assert {getattr(replica, changed) for replica in containers.there} == {"another"}
    assert not set(before) & set(containers.there)


def test_a_changed_image_that_never_turns_healthy_leaves_the_old_replicas(
    folder: Path, containers: Containers, make: Make
) -> None:
    trained(folder, 1)
    make("up", "--scale=2")
    before = list(containers.there)
    containers.image, containers.fails = "another", OperatorError("a new replica is unhealthy.")
    with pytest.raises(OperatorError, match=r"was not deployed: .* 2 replica\(s\) of .* serve on"):
        make("up", "--scale=2")
    assert containers.there == before


def test_an_image_that_changed_after_an_interrupted_deployment_is_rolled_out_too(
    folder: Path, containers: Containers, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(folder, 1)
    make("up")
    containers.image = "another"
    with monkeypatch.context() as patch:
        patch.setattr(Rollout, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make("up")
    containers.image = "a third"
    make("up")
    assert "recreate" not in containers.commands
    assert [replica.image for replica in containers.there] == ["a third"]


def test_unchanged_replicas_are_kept_and_scaled(folder: Path, containers: Containers, make: Make) -> None:
    trained(folder, 1)
    make("up")
    before = list(containers.there)
    containers.others = []
    make("up", "--scale=3")
    assert containers.others == ["gateway"], "changed, it would stop the servers, which depend on others"
    assert containers.there[:1] == before
    assert len(containers.there) == 3
    current = Deployments(folder / "deployments.jsonl").current()
    assert current is not None
    assert current.replicas == 3


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
