"""What may serve beside gRPC, in the same process."""

from __future__ import annotations

from typing import Protocol


class Entrypoint(Protocol):
    """Take calls for the same service by another protocol."""

    async def start(self) -> dict[str, int]:
        """Listen; return the ports by their names in the log.

        :raises SettingsError: an address or a TLS file can't be used
        """

    def leave(self) -> None:
        """Say that the server is not ready, while calls are still answered."""

    async def finish(self) -> None:
        """Take no more connections, and return when the calls in flight have ended; may be cancelled."""

    async def close(self) -> None:
        """End every call and connection."""
