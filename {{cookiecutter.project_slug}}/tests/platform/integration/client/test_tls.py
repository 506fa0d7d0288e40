"""Encrypted connections, and those that must be refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from serving_client import AccessDenied, DeadlineExceeded, InvalidRequest, Tls, Unavailable
from tests.platform.support.artifacts import tiny
from tests.platform.support.callers import PATIENCE_S
from tests.platform.support.fake_server import FakeServer
from tests.platform.support.server import serving
from tests.platform.support.services import fake_service

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


async def test_a_token_is_read_for_each_call_and_a_wrong_one_is_denied(folder: Path, connect: Connect) -> None:
    valid, sent = folder / "valid", folder / "sent"
    for file in (valid, sent):
        file.write_text("token-of-a-test-1\n", encoding="ascii")
    files = {"tls_certificate": CERTS / "server.pem", "tls_key": CERTS / "server-key.pem"}
    async with serving(fake_service(tiny()), **files, token_file=valid) as wire:
        client = connect(wire.target, model="tiny", tls=Tls(ca=AUTHORITY, server_name=NAME, token_file=sent))
        assert await client.health(timeout=PATIENCE_S) == "SERVING"
        inputs = {"base": [1.0], "value": [2.0]}
        await client.predict(inputs, timeout=PATIENCE_S)
        valid.write_text("token-of-a-test-22\n", encoding="ascii")
        with pytest.raises(AccessDenied, match="this server needs a valid token"):
            await client.predict(inputs, timeout=PATIENCE_S)
        sent.write_text("token-of-a-test-22\n", encoding="ascii")
        await client.predict(inputs, timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("content", "fault"), [(None, "can't be read"), (b"", "has no token"), (b"\xff", "has no token")]
)
async def test_a_useless_token_file_is_named(folder: Path, connect: Connect, content: bytes | None, fault: str) -> None:
    file = folder / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidRequest, match=f"^tls: token_file '{file}' {fault}"):
        connect("localhost:1", tls=Tls(token_file=file))
