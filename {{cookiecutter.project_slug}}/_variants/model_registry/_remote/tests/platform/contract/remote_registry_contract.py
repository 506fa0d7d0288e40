"""The contract of a registry on a server that overwrites silently: promotions at once, at each of their steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.adapters.model_registry import ballots
from serving.adapters.model_registry.ballots import Position
from serving.domain.errors import StalePromotion
from serving.domain.ports import Promotion
from serving.offline.registry import CHAMPION
from tests.platform.contract.model_registry_contract import ModelRegistryContract, registered

STEPS = 7
"""Of a promotion: read, write and read, write and read, settle, withdraw."""


class Killed(BaseException):
    """The writer was killed."""


class Stepped:
    """A position that calls `act` once, before the step with this number."""

    def __init__(self, position: Position, number: int, act: Callable[[], None]) -> None:
        self._position = position
        self._left = number
        self._act = act

    def read(self) -> tuple[Mapping[str, str], str | None]:
        self._step()
        return self._position.read()

    def attempt(self, writer: str, text: str) -> None:
        self._step()
        self._position.attempt(writer, text)

    def withdraw(self, writer: str) -> None:
        self._step()
        self._position.withdraw(writer)

    def settle(self, text: str) -> None:
        self._step()
        self._position.settle(text)

    def _step(self) -> None:
        self._left -= 1
        if self._left == -1:
            self._act()


class RemoteRegistryContract(ModelRegistryContract):
    """Beside the contract of every registry."""

    def append(self, folder: Path, promotion: Promotion) -> bool:
        """Return whether a promotion was recorded."""
        try:
            self.backend(folder).append("tiny", promotion, timeout=60)
        except StalePromotion:
            return False
        return True

    def promoted(self, folder: Path) -> Promotion:
        """Record the first promotion of a model."""
        registry = self.open(folder)
        return registry.promote(registered(registry, folder), CHAMPION, expect="none", by="ann")

    def test_a_promotion_at_any_step_of_another_one_is_never_lost(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        last = self.promoted(folder)
        winners = []
        for step in range(STEPS):
            bob, eve = (replace(last, number=last.number + 1, by=by) for by in ("bob", "eve"))
            recorded = {}

            def cross(eve: Promotion = eve, recorded: dict[str, bool] = recorded) -> None:
                recorded["eve"] = self.append(folder, eve)

            at_step(monkeypatch, step, cross)
            recorded["bob"] = self.append(folder, bob)
            last = self.open(folder).record("tiny").promotions[-1]
            assert last in (bob, eve)
            assert recorded == {"bob": last == bob, "eve": last == eve}, step
            winners.append(last.by)
        assert set(winners) == {"bob", "eve"}

    def test_a_promotion_killed_at_any_step_blocks_nobody_and_is_recorded_for_all_or_for_none(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        last = self.promoted(folder)
        winners = []
        for step in range(STEPS):
            bob, eve = (replace(last, number=last.number + 1, by=by) for by in ("bob", "eve"))
            at_step(monkeypatch, step, kill)
            with pytest.raises(Killed):
                self.append(folder, bob)
            after = self.open(folder).record("tiny").promotions[-1]
            assert after in (last, bob), "only what is settled counts"
            recorded = self.append(folder, eve)
            before, last = last, self.open(folder).record("tiny").promotions[-1]
            assert last == (eve if recorded else bob), step
            assert after in (before, last), "what was once in the history stays"
            winners.append(last.by)
        assert set(winners) == {"bob", "eve"}


def kill() -> None:
    """End the writer."""
    raise Killed


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> None:
    """Call `act` before a step of the next promotion."""
    settle = ballots.settle

    def stepped(position: Position, text: str, writer: str, **options: Any) -> bool:
        monkeypatch.setattr(ballots, "settle", settle)
        return settle(Stepped(position, number, act), text, writer, **options)

    monkeypatch.setattr(ballots, "settle", stepped)
