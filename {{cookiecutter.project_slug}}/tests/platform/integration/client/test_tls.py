"""Encrypted connections, and those that must be refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from serving_client import DeadlineExceeded, Tls, Unavailable
from tests.platform.support.callers import PATIENCE_S
from tests.platform.support.fake_server import FakeServer

from .conftest import Connect, Serve

CERTS = Path(__file__).parents[2] / "support" / "certs"
AUTHORITY, STRANGER = CERTS / "authority.pem", CERTS / "stranger.pem"
CALLER = {"certificate": CERTS / "caller.pem", "key": CERTS / "caller-key.pem"}
NAME = "model.test"

ONE = {"numbers": [1.0]}
SHORT_S = 0.3


def server_credentials(*, mutual: bool) -> grpc.ServerCredentials:
    pair = ((CERTS / "server-key.pem").read_bytes(), (CERTS / "server.pem").read_bytes())
    authority = AUTHORITY.read_bytes() if mutual else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=mutual)


@pytest.fixture
def tls_server(serve: Serve) -> FakeServer:
    return serve(credentials=server_credentials(mutual=False))


@pytest.fixture
def mutual_server(serve: Serve) -> FakeServer:
    return serve(credentials=server_credentials(mutual=True))


async def refused(connect: Connect, server: FakeServer, tls: Tls | None) -> None:
    """Check that no call succeeds; a prediction waits for another server until its deadline."""
    client = connect(server.target, tls=tls)
    with pytest.raises(Unavailable):
        await client.health(timeout=PATIENCE_S)
    with pytest.raises(DeadlineExceeded):
        async with asyncio.timeout(PATIENCE_S):
            await client.predict(ONE, timeout=SHORT_S)
    assert server.request_ids("ModelMetadata") == []


async def test_a_trusted_server_is_called(tls_server: FakeServer, connect: Connect) -> None:
    client = connect(tls_server.target, tls=Tls(ca=AUTHORITY, server_name=NAME))
    assert (await client.predict(ONE, timeout=PATIENCE_S))["numbers"].tolist() == [1.0]
    assert await client.health(timeout=PATIENCE_S) == "SERVING"


@pytest.mark.parametrize(
    "tls",
    [Tls(ca=STRANGER, server_name=NAME), Tls(ca=AUTHORITY), Tls(server_name=NAME), None],
    ids=["other authority", "other name", "the system's authorities", "no TLS"],
)
async def test_a_server_that_is_not_trusted_is_not_called(
    tls_server: FakeServer, connect: Connect, tls: Tls | None
) -> None:
    await refused(connect, tls_server, tls)


async def test_a_caller_with_a_certificate_is_accepted(mutual_server: FakeServer, connect: Connect) -> None:
    client = connect(mutual_server.target, tls=Tls(ca=AUTHORITY, server_name=NAME, **CALLER))
    await client.wait_ready(timeout=PATIENCE_S)
    assert (await client.predict(ONE, timeout=PATIENCE_S))["numbers"].tolist() == [1.0]


async def test_a_caller_without_a_certificate_is_rejected(mutual_server: FakeServer, connect: Connect) -> None:
    await refused(connect, mutual_server, Tls(ca=AUTHORITY, server_name=NAME))
