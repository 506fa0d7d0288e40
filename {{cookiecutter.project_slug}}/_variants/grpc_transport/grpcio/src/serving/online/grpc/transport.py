"""What carries the calls: grpcio's server."""

from __future__ import annotations

from collections.abc import Sequence

import grpc


def make_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]], *, encrypted: bool
) -> grpc.aio.Server:
    """Return a server that does not listen yet; `encrypted` says whether its port will have TLS."""
    return grpc.aio.server(interceptors=interceptors, options=options)
