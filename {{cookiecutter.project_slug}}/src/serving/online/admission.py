"""Admission control: what can't be answered in time is refused at once.

A server that takes on more than it can do answers nobody in time. Refusing costs a millisecond and tells a client to go
elsewhere. Health checks and metadata don't pass here: they must answer while the service is busy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serving.domain.errors import DeadlineExceeded, Overloaded
from serving.online.costs import Costs
from serving.online.slots import Slots

_MARGIN = 1.3  # no two calls take equally long


@dataclass(frozen=True)
class Limits:
    """Limit the calls of one server: how many run, how many wait, and the bytes of all their requests together.

    `concurrency` is how many calls the model works on at once.
    """

    max_running: int
    max_queued: int
    max_bytes: int
    concurrency: int = 1


class Call:
    """A call that is let in while the block runs; tell it how many seconds the model took."""

    def __init__(self, admission: Admission, size: int, timeout: float, expected: float) -> None:
        self._admission = admission
        self.size = size
        self.timeout = timeout
        self.expected = expected
        self.took: float | None = None

    async def __aenter__(self) -> Call:
        await self._admission.enter(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._admission.leave(self)


class Admission:
    """Let calls in, in the order of arrival; `observe_refusal` gets the reason of each refusal."""

    def __init__(self, limits: Limits, observe_refusal: Callable[[str], None]) -> None:
        self._limits = limits
        self._observe_refusal = observe_refusal
        self._slots = Slots(limits.max_running)
        self._costs = Costs()
        self._bytes = 0
        self._ahead_s = 0.0

    @property
    def running(self) -> int:
        """How many calls run."""
        return self._slots.taken

    @property
    def queued(self) -> int:
        """How many calls wait."""
        return self._slots.waiting

    @property
    def held_bytes(self) -> int:
        """How many bytes the requests of these calls have."""
        return self._bytes

    def slot(self, *, size: int, timeout: float) -> Call:
        """Return a call with a request of `size` bytes; it holds one slot while its `async with` block runs.

        :raises Overloaded: too many calls wait, they hold too many bytes, or too much work for this call's deadline
        :raises DeadlineExceeded: the call waited until its deadline
        """
        return Call(self, size, timeout, self._costs.expect(size))

    async def enter(self, call: Call) -> None:
        """Let a call in, once a slot is free."""
        self._check(call)
        self._bytes += call.size
        self._ahead_s += call.expected
        try:
            await self._slots.take(timeout=call.timeout)
        except BaseException as error:
            self._forget(call)
            if isinstance(error, TimeoutError):
                late = f"the deadline of {call.timeout:.3f} s passed while the call waited."
                raise DeadlineExceeded(late) from None
            raise

    def leave(self, call: Call) -> None:
        """Give back the slot of a call, and learn what the call took."""
        self._slots.give_back()
        self._forget(call)
        if call.took is not None:
            self._costs.learn(call.size, call.took)

    def _forget(self, call: Call) -> None:
        self._bytes -= call.size
        # No sum of differences: with nobody here, nothing is left to round.
        self._ahead_s = self._ahead_s - call.expected if self.running or self.queued else 0.0

    def _check(self, call: Call) -> None:
        """Refuse what has no room or no time."""
        if not self.running:
            return  # or a cost once learnt too high would never be learnt anew
        limits = self._limits
        if not self._slots.free and self.queued >= limits.max_queued:
            self._refuse("queue_full", f"{self.running} calls run and {self.queued} wait, which is the limit")
        if self._bytes + call.size > limits.max_bytes:
            held = f"{self._bytes} bytes of requests are held, {call.size} more would pass the limit"
            self._refuse("memory", f"{held} of {limits.max_bytes}")
        expected = _MARGIN * (self._ahead_s / limits.concurrency + call.expected)
        if expected > call.timeout:
            self._refuse("deadline", f"the answer could take {expected:.2f} s, the deadline is {call.timeout:.2f} s")

    def _refuse(self, reason: str, text: str) -> None:
        self._observe_refusal(reason)
        raise Overloaded(f"{text}; try again later.")
