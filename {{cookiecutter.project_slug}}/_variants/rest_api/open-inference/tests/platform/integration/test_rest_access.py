"""Who may call by REST: the same tokens, certificates and names as by gRPC."""

from __future__ import annotations

import logging
import os
import shutil
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from serving.domain.errors import SettingsError
from serving.online.settings import load_settings
from serving.online.telemetry import Metrics
from tests.platform.support.artifacts import tiny
from tests.platform.support.rest import Answer, serving_rest
from tests.platform.support.services import fake_service

CERTIFICATES = Path(__file__).parents[1] / "support" / "certs"
NAME = "model.test"
ENCRYPTED: dict[str, Any] = {"tls_certificate": CERTIFICATES / "server.pem", "tls_key": CERTIFICATES / "server-key.pem"}
MUTUAL: dict[str, Any] = ENCRYPTED | {"tls_client_ca": CERTIFICATES / "authority.pem"}
TOKEN, OTHER = "token-of-a-test-1", "token-of-a-test-2"
PATHS = {
    "/v2": "GET",
    "/v2/health/live": "GET",
    "/v2/health/ready": "GET",
    "/v2/models/tiny": "GET",
    "/v2/models/tiny/ready": "GET",
    "/v2/models/tiny/infer": "POST",
    "/v2/openapi.json": "GET",
    "/nowhere": "GET",
}


def context(authority: str = "authority.pem", caller: str = "") -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=CERTIFICATES / authority)
    if caller:
        made.load_cert_chain(CERTIFICATES / f"{caller}.pem", CERTIFICATES / f"{caller}-key.pem")
    return made


async def ask(
    port: int, path: str = "/v2/health/ready", tls: ssl.SSLContext | None = None, token: str | bytes = ""
) -> Answer:
    """Ask on a new connection."""
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{path}"
    options: dict[str, Any] = {"ssl": tls, "server_hostname": NAME} if tls else {}
    headers = {"Authorization": token} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.request(PATHS[path], url, headers=headers, **options) as answer,
    ):
        return Answer(answer.status, answer.headers, await answer.read())


@pytest.fixture
def tokens(folder: Path) -> Path:
    """Return a file with two valid tokens."""
    file = folder / "tokens"
    file.write_text(f"{TOKEN}\n{OTHER}\n", encoding="ascii")
    return file


async def test_every_path_asks_for_a_token_first(tokens: Path) -> None:
    metrics = Metrics.create()
    async with serving_rest(fake_service(tiny()), metrics=metrics, token_file=tokens) as rest:
        for path in PATHS:
            for token in ("", "Bearer wrong-token-of-a-test", f"Basic {TOKEN}", "Bearer"):
                answer = await ask(rest.port, path, token=token)
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), path
                assert "valid token" in answer.json["detail"]
            for token in (f"Bearer {TOKEN}", f"bearer {OTHER}"):
                assert (await ask(rest.port, path, token=token)).status != 401, path
    assert metrics.registry.get_sample_value("serving_denied_total", {"reason": "token"}) == 4 * len(PATHS)
    assert metrics.registry.get_sample_value("rest_server_started_total", {"method": "ModelInfer"}) == 2


async def test_a_token_that_is_replaced_counts_at_once(tokens: Path) -> None:
    async with serving_rest(fake_service(tiny()), token_file=tokens) as rest:
        tokens.write_text("another-token-of-a-test", encoding="ascii")
        os.utime(tokens, (1, 1))
        assert (await ask(rest.port, token=f"Bearer {TOKEN}")).status == 401
        assert (await ask(rest.port, token="Bearer another-token-of-a-test")).status == 200


async def test_with_tls_only_encrypted_calls_are_answered() -> None:
    async with serving_rest(fake_service(tiny()), **ENCRYPTED) as rest:
        assert (await ask(rest.port, tls=context())).status == 200
        with pytest.raises(aiohttp.ClientError):
            await ask(rest.port)
        with pytest.raises(aiohttp.ClientError):
            await ask(rest.port, tls=context("stranger.pem"))


@pytest.mark.parametrize("caller", ["", "foreign", "expired"])
async def test_mutual_tls_answers_only_callers_of_the_authority(caller: str) -> None:
    async with serving_rest(fake_service(tiny()), **MUTUAL) as rest:
        assert (await ask(rest.port, tls=context(caller="caller"))).status == 200
        with pytest.raises(aiohttp.ClientError):
            await ask(rest.port, tls=context(caller=caller))


@pytest.mark.parametrize(
    ("names", "status"),
    [
        ("caller.test", 200),
        ("other.test, caller.test", 200),
        ("other.test", 403),
        ("tests only: caller", 403),  # the common name counts only without others
        ("*.test", 403),
    ],
)
async def test_only_callers_with_an_allowed_name_are_answered(names: str, status: int) -> None:
    metrics = Metrics.create()
    async with serving_rest(fake_service(tiny()), metrics=metrics, **MUTUAL, client_names=names) as rest:
        answer = await ask(rest.port, tls=context(caller="caller"))
    assert answer.status == status
    if status == 403:
        assert "ask its operators" in answer.json["detail"]
        assert metrics.registry.get_sample_value("serving_denied_total", {"reason": "name"}) == 1


async def test_a_replaced_certificate_and_authority_count_for_new_connections(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    files = {"tls_certificate": "server.pem", "tls_key": "server-key.pem", "tls_client_ca": "authority.pem"}
    for file in files.values():
        shutil.copy(CERTIFICATES / file, folder / file)
    mine: dict[str, Any] = {name: folder / file for name, file in files.items()}
    async with serving_rest(fake_service(tiny()), **mine) as rest:
        assert (await ask(rest.port, tls=context(caller="caller"))).status == 200
        shutil.copy(CERTIFICATES / "stranger.pem", folder / "authority.pem")
        os.utime(folder / "authority.pem", (1, 1))
        with pytest.raises(aiohttp.ClientError):
            await ask(rest.port, tls=context(caller="caller"))
        shutil.copy(CERTIFICATES / "authority.pem", folder / "authority.pem")
        (folder / "server.pem").write_text("nonsense", encoding="ascii")  # the old one goes on
        with pytest.raises(aiohttp.ClientError):
            await ask(rest.port, tls=context(caller="caller"))
        shutil.copy(CERTIFICATES / "server.pem", folder / "server.pem")
        assert (await ask(rest.port, tls=context(caller="caller"))).status == 200
    assert "The server goes on with what it read before." in caplog.text


async def test_a_taken_port_is_named() -> None:
    async with serving_rest(fake_service(tiny())) as rest:
        with pytest.raises(SettingsError, match=f"SERVING_REST_PORT={rest.port}: can't listen on 127.0.0.1"):
            async with serving_rest(fake_service(tiny()), rest_port=rest.port):
                pass


def test_an_open_address_needs_tls_or_a_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_REST_HOST", "0.0.0.0")  # noqa: S104 - nothing listens
    with pytest.raises(SettingsError, match="SERVING_REST_HOST='0.0.0.0' without TLS"):
        load_settings()
    monkeypatch.setenv("SERVING_PLAINTEXT", "allowed")
    assert load_settings().rest_host == "0.0.0.0"  # noqa: S104
