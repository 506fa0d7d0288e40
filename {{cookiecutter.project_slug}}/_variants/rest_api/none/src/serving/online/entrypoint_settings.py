"""The settings of what serves beside gRPC: none."""

from __future__ import annotations

from serving.domain.settings import SharedSettings


class EntrypointSettings(SharedSettings):
    """Hold what gRPC doesn't need."""

    def further_hosts(self) -> dict[str, str]:
        """Return the addresses to listen on besides gRPC's, by their variables."""
        return {}
