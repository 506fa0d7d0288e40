from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.domain.errors import SettingsError
from tests.platform.support.artifacts import tiny
from tests.platform.support.server import serving
from tests.platform.support.services import fake_service
from tests.platform.support.wire import SERVING, Wire

CERTIFICATES = Path(__file__).parents[1] / "support" / "certs"
NAME = "model.test"

ENCRYPTED: dict[str, Any] = {"tls_certificate": CERTIFICATES / "server.pem", "tls_key": CERTIFICATES / "server-key.pem"}
MUTUAL: dict[str, Any] = ENCRYPTED | {"tls_client_ca": CERTIFICATES / "authority.pem"}


def credentials(authority: str = "authority.pem", caller: str = "") -> grpc.ChannelCredentials:
    def read(name: str) -> bytes:
        return (CERTIFICATES / name).read_bytes()

    pair = (read(f"{caller}-key.pem"), read(f"{caller}.pem")) if caller else (None, None)
    return grpc.ssl_channel_credentials(read(authority), *pair)


async def refused(wire: Wire) -> bool:
    """Return whether the connection is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await wire.status()
    return refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_that_trusts_the_authority_is_answered() -> None:
    async with (
        serving(fake_service(tiny()), **ENCRYPTED) as plain,
        Wire(plain.target, credentials(), name=NAME) as wire,
    ):
        assert await wire.status() == SERVING


async def test_a_caller_without_tls_is_refused() -> None:
    async with serving(fake_service(tiny()), **ENCRYPTED) as plain:
        assert await refused(plain)


async def test_a_caller_that_trusts_another_authority_does_not_call_the_server() -> None:
    async with (
        serving(fake_service(tiny()), **ENCRYPTED) as plain,
        Wire(plain.target, credentials("stranger.pem"), name=NAME) as wire,
    ):
        assert await refused(wire)


async def test_mutual_tls_answers_only_callers_with_a_certificate() -> None:
    async with serving(fake_service(tiny()), **MUTUAL) as plain:
        async with Wire(plain.target, credentials(caller="caller"), name=NAME) as wire:
            assert await wire.status() == SERVING
        async with Wire(plain.target, credentials(), name=NAME) as wire:
            assert await refused(wire)


FILES = {"certificate": "server.pem", "key": "server-key.pem", "client_ca": "authority.pem"}


@pytest.mark.parametrize("wrong", FILES)
@pytest.mark.parametrize(("content", "message"), [(None, "can't be read (No such file"), ("nonsense", "PEM")])
async def test_an_unusable_tls_file_is_named(folder: Path, wrong: str, content: str | None, message: str) -> None:
    files = {name: CERTIFICATES / file for name, file in FILES.items()} | {wrong: folder / "wrong.pem"}
    if content is not None:
        files[wrong].write_text(content, encoding="ascii")
    settings: dict[str, Any] = {f"tls_{name}": file for name, file in files.items()}
    with pytest.raises(SettingsError) as refusal:
        async with serving(fake_service(tiny()), **settings):
            pass
    assert f"SERVING_TLS_{wrong.upper()}={files[wrong]}" in str(refusal.value)
    assert message in str(refusal.value)


async def test_a_key_of_another_certificate_is_reported() -> None:
    other: dict[str, Any] = {"tls_certificate": CERTIFICATES / "server.pem", "tls_key": CERTIFICATES / "caller-key.pem"}
    with pytest.raises(SettingsError, match="are not a certificate and its key"):
        async with serving(fake_service(tiny()), **other):
            pass
