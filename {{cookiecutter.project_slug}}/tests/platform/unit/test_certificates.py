"""Certificates for development: made once, never overwritten, and good for the server's names."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import pytest

from tests.platform.support.artifacts import tiny
from tests.platform.support.server import serving
from tests.platform.support.services import fake_service
from tests.platform.support.wire import SERVING, Wire
from tools.certificates import CertificateError, make

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="this machine has no openssl")


async def test_server_and_client_trust_each_other_by_them(folder: Path) -> None:
    secrets = folder / "secrets"
    tls = secrets / "tls"
    made = make(secrets)
    read = {name: (secrets / name).read_bytes() for name in made}
    settings = {
        "tls_certificate": tls / "server.pem",
        "tls_key": tls / "server-key.pem",
        "tls_client_ca": tls / "authority.pem",
        "client_names": "client",
    }
    trusted = grpc.ssl_channel_credentials(read["tls/authority.pem"], read["client-key.pem"], read["client.pem"])
    async with serving(fake_service(tiny()), **settings) as plain:
        port = plain.target.rpartition(":")[2]
        for name in ("localhost", "server", ""):
            async with Wire(f"127.0.0.1:{port}", trusted, name=name) as wire:
                assert await wire.status() == SERVING
    assert make(secrets) == []
    assert {name: (secrets / name).read_bytes() for name in made} == read
    assert secrets.stat().st_mode & 0o777 == 0o700
    # The server's container mounts tls/: no other key is in it, and its user can read all of it.
    assert {path.name: path.stat().st_mode & 0o777 for path in tls.iterdir()} == {
        "authority.pem": 0o444,
        "server.pem": 0o444,
        "server-key.pem": 0o444,
    }
    assert sorted(str(path.relative_to(secrets)) for path in secrets.rglob("*") if path.is_file()) == sorted(made)


def test_nothing_is_overwritten(folder: Path) -> None:
    mine = folder / "tls" / "server.pem"
    mine.parent.mkdir()
    mine.write_text("mine", encoding="ascii")
    with pytest.raises(CertificateError, match="has tls/server.pem but not the rest; nothing is overwritten"):
        make(folder)
    assert list(folder.rglob("*.pem")) == [mine]
    assert mine.read_text(encoding="ascii") == "mine"


def test_without_openssl_one_sentence_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(CertificateError, match="the command `openssl` is missing"):
        make(folder / "secrets")
