"""Writers of one position agree on its text, however their steps are mixed and wherever one is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

import pytest

from serving.adapters.model_registry.ballots import UnreadableAttempt, settle

STEPS = 7
"""Of a writer that nobody disturbs: list, write and list, write and list, settle, withdraw."""


class Waiting(BaseException):
    """A writer has done its step, and does not go on yet."""


class Server:
    """A position in memory that overwrites silently, as the servers do."""

    def __init__(self) -> None:
        self.attempts: dict[str, str] = {}
        self.settled: list[str] = []

    def read(self) -> tuple[Mapping[str, str], str | None]:
        return dict(self.attempts), self.settled[-1] if self.settled else None

    def attempt(self, writer: str, text: str) -> None:
        self.attempts[writer] = text

    def withdraw(self, writer: str) -> None:
        del self.attempts[writer]

    def settle(self, text: str) -> None:
        self.settled.append(text)


class Writer:
    """A writer that makes one step at a time: it is run again with the answers that it got so far."""

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        self.result: bool | None = None
        self._server = server
        self._answers: list[Any] = []
        self._replayed: Iterator[Any] = iter(())

    def step(self) -> None:
        self._replayed = iter(list(self._answers))
        try:
            self.result = settle(self, f"text of {self.name}", self.name, pause=lambda: None)
        except Waiting:
            self.result = None

    def end(self) -> bool:
        while self.result is None:
            self.step()
            assert len(self._answers) < 100, "it never ends"
        return self.result

    def read(self) -> tuple[Mapping[str, str], str | None]:
        found: tuple[Mapping[str, str], str | None] = self._once(self._server.read)
        return found

    def attempt(self, writer: str, text: str) -> None:
        self._once(lambda: self._server.attempt(writer, text))

    def withdraw(self, writer: str) -> None:
        self._once(lambda: self._server.withdraw(writer))

    def settle(self, text: str) -> None:
        self._once(lambda: self._server.settle(text))

    def _once(self, act: Callable[[], Any]) -> Any:
        for answer in self._replayed:
            return answer
        self._answers.append(act())
        raise Waiting


def agree(server: Server, writers: Sequence[Writer]) -> None:
    """Check that the position has one text, and that each writer that ended knows whether it is its own."""
    assert len(set(server.settled)) <= 1
    for writer in writers:
        if writer.result is not None:
            assert writer.result == (f"text of {writer.name}" in server.settled), writer.name


def turns() -> Iterator[list[int]]:
    """Yield every order of the steps of two writers."""
    for first in combinations(range(2 * STEPS), STEPS):
        yield [0 if place in first else 1 for place in range(2 * STEPS)]


def test_a_writer_alone_settles_its_text_and_leaves_no_attempt() -> None:
    server = Server()
    writer = Writer(server, "a")
    for _ in range(STEPS):
        assert writer.result is None
        writer.step()
    assert writer.end()
    assert (server.settled, server.attempts) == (["text of a"], {})


def test_a_settled_position_is_left_as_it_is() -> None:
    server = Server()
    assert Writer(server, "a").end()
    assert not Writer(server, "b").end()
    assert (server.settled, server.attempts) == (["text of a"], {})


def test_two_writers_agree_in_every_order_of_their_steps() -> None:
    for order in turns():
        server = Server()
        writers = [Writer(server, "a"), Writer(server, "b")]
        for turn in order:
            if writers[turn].result is None:
                writers[turn].step()
            agree(server, writers)
        assert sorted(writer.end() for writer in writers) == [False, True]
        agree(server, writers)
        assert server.attempts == {}


@pytest.mark.parametrize("names", list(permutations("abc")))
def test_a_killed_writer_blocks_nobody_and_its_text_is_lost_or_settled_for_all(names: tuple[str, ...]) -> None:
    for before in range(STEPS):  # of the one that is killed
        for between in range(STEPS):
            for after in range(STEPS - before + 1):
                server = Server()
                killed, second, third = (Writer(server, name) for name in names)
                for writer, steps in ((killed, before), (second, between), (killed, after)):
                    for _ in range(steps):
                        if writer.result is None:
                            writer.step()
                third.end()
                agree(server, [killed, second, third])
                second.end()
                agree(server, [killed, second, third])
                assert len(server.settled) >= 1


def test_three_writers_agree_however_they_take_turns() -> None:
    for first in range(1, STEPS):
        for second in range(1, STEPS):
            for third in range(1, STEPS):
                server = Server()
                writers = [Writer(server, name) for name in "bca"]
                for _ in range(2):  # without a pause they may outbid each other for ever
                    for writer, steps in zip(writers, (first, second, third), strict=True):
                        for _ in range(steps):
                            if writer.result is None:
                                writer.step()
                            agree(server, writers)
                assert sorted(writer.end() for writer in writers) == [False, False, True]
                agree(server, writers)
                assert server.attempts == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"ballot": 1}', '{"ballot": [1], "accepted": [0, ""], "text": ""}'])
def test_an_attempt_that_can_not_be_read_is_named(text: str) -> None:
    server = Server()
    server.attempt("b", text)
    with pytest.raises(UnreadableAttempt, match="b"):
        settle(server, "text of a", "a")
    assert server.settled == []
