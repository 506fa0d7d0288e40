"""The part of a gRPC context that handlers use, without a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, cast

import grpc

from serving.online.grpc.servicer import Context


class Aborted(Exception):
    """The call was ended with a status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


class FakeContext:
    """Hold a call's metadata and deadline; keep what the handler sent back."""

    def __init__(self, metadata: Sequence[tuple[str, str | bytes]] = (), remaining: float | None = None) -> None:
        self._metadata = tuple(metadata)
        self._remaining = remaining
        self.trailing: dict[str, str] = {}

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata

    def time_remaining(self) -> float | None:
        return self._remaining

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        self.trailing.update(metadata)

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise Aborted(code, details)

    def as_context(self) -> Context:
        """Return this fake under the type that handlers declare."""
        return cast("Context", self)
