"""The settings of the REST API."""

from __future__ import annotations

from pydantic import Field

from serving.domain.settings import SharedSettings


class EntrypointSettings(SharedSettings):
    """Hold what gRPC doesn't need."""

    rest_host: str = ""
    """The address of the REST API; by default that of gRPC."""
    rest_port: int = Field(default=8000, ge=0, le=65535)
    """The port of the REST API; 0 takes a free one and logs it."""

    def further_hosts(self) -> dict[str, str]:
        """Return the addresses to listen on besides gRPC's, by their variables."""
        return {"SERVING_REST_HOST": self.rest_host} if self.rest_host else {}
