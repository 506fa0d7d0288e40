"""What carries the calls: pygrpc-native, and grpcio where that can't."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import grpc

log = logging.getLogger(__name__)


def make_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]], *, encrypted: bool
) -> grpc.aio.Server:
    """Return a server that does not listen yet; `encrypted` says whether its port will have TLS."""
    lacking = "TLS" if encrypted else "Windows" if sys.platform == "win32" else ""
    if lacking:
        log.info("grpcio carries the calls: the native transport has no support for %s", lacking)
        return grpc.aio.server(interceptors=interceptors, options=options)
    # Not at the top: on Windows the package is not installed.
    from serving.online.grpc.native import NativeServer

    return NativeServer(interceptors, options)
