"""One text per position, on a server that overwrites silently: writers agree by ballots.

A server without compare-and-set can't refuse the second writer of a key. So each writer uses a separate key, writes
first and lists afterwards. No rule on one such write is enough: whoever lists early may report success before a better
attempt arrives. A writer therefore writes twice, first its ballot and then the text that it accepts, which is the
newest that another writer has accepted already. It settles that text if it saw no higher ballot. This is Disk Paxos
with one disk: E. Gafni and L. Lamport, Disk Paxos, 2003.

What holds: a position gets one text for ever, and each writer learns truly whether it is its own. Readers look at the
settled text only, so they agree whatever is killed when. A killed writer blocks nobody: the next one settles its text,
if it was accepted, or replaces it. What it takes: a listing shows all writes that ended before it, and other writers
follow the same rule.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Protocol

Ballot = tuple[int, str]
"""A count and the writer's name: unique, and ordered alike by every writer."""

_NONE: Ballot = (0, "")
_PAUSE_MS = 100


class UnreadableAttempt(Exception):
    """The text of an attempt, changed by somebody else, can't be read; the argument is its writer."""


class Position(Protocol):
    """One position on a server; writing a text replaces the one before."""

    def read(self) -> tuple[Mapping[str, str], str | None]:
        """Return the attempts by writer, and the settled text, as they are at one moment."""

    def attempt(self, writer: str, text: str) -> None:
        """Write this writer's attempt."""

    def withdraw(self, writer: str) -> None:
        """Remove this writer's attempt."""

    def settle(self, text: str) -> None:
        """Write the settled text."""


@dataclass(frozen=True)
class _Attempt:
    """What a writer has published; `text` is the one that it accepted in the ballot `accepted`."""

    ballot: Ballot
    accepted: Ballot
    text: str


class _Settled(Exception):
    """The position has this text."""


class _Outbid(Exception):
    """Another writer has a higher ballot."""


def _random_pause() -> None:
    time.sleep(secrets.randbelow(_PAUSE_MS) / 1000)


def settle(position: Position, text: str, writer: str, *, pause: Callable[[], None] = _random_pause) -> bool:
    """Settle a text at a position; return whether the position has it now, and for ever.

    `writer` is a unique name. `pause` separates writers that outbid each other.

    :raises UnreadableAttempt: an attempt can't be read
    """
    mine = _Attempt(_NONE, _NONE, text)
    try:
        while True:
            count = max(attempt.ballot[0] for attempt in (mine, *_list(position, writer)))
            mine = replace(mine, ballot=(count + 1, writer))
            try:
                others = _publish(position, writer, mine)
                newest = max((mine, *others), key=lambda attempt: attempt.accepted)
                mine = replace(mine, accepted=mine.ballot, text=newest.text)
                _publish(position, writer, mine)
            except _Outbid:
                if mine.accepted == _NONE:  # so nobody can have taken over its text
                    position.withdraw(writer)
                    return False
                pause()
            else:
                position.settle(mine.text)
                raise _Settled(mine.text)
    except _Settled as settled:
        if mine.ballot != _NONE:
            position.withdraw(writer)
        return settled.args == (text,)


def _publish(position: Position, writer: str, attempt: _Attempt) -> list[_Attempt]:
    """Write an attempt, then list those of the others."""
    position.attempt(writer, json.dumps(asdict(attempt)))
    others = _list(position, writer)
    if any(other.ballot > attempt.ballot for other in others):
        raise _Outbid
    return others


def _list(position: Position, writer: str) -> list[_Attempt]:
    """Return the attempts of the other writers."""
    attempts, settled = position.read()
    if settled is not None:
        raise _Settled(settled)
    return [_parse(text, other) for other, text in sorted(attempts.items()) if other != writer]


def _parse(text: str, writer: str) -> _Attempt:
    try:
        parts = json.loads(text)
        (count, name), (accepted, by) = parts["ballot"], parts["accepted"]
        return _Attempt((int(count), str(name)), (int(accepted), str(by)), str(parts["text"]))
    except (ValueError, KeyError, TypeError):
        raise UnreadableAttempt(writer) from None
