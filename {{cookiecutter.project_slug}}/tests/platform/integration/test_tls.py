from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serving.domain.errors import SettingsError, quoted
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.inference import NoModel
from serving.online.telemetry import Metrics
from serving_client.cli import main
from tests.platform.support.artifacts import tiny
from tests.platform.support.server import needs_ipv6, serving
from tests.platform.support.services import fake_service
from tests.platform.support.wire import CALL_S, SERVING, Wire, floats, request

CERTIFICATES = Path(__file__).parents[1] / "support" / "certs"
NAME = "model.test"
Metadata = tuple[tuple[str, str], ...]

ENCRYPTED: dict[str, Any] = {"tls_certificate": CERTIFICATES / "server.pem", "tls_key": CERTIFICATES / "server-key.pem"}
MUTUAL: dict[str, Any] = ENCRYPTED | {"tls_client_ca": CERTIFICATES / "authority.pem"}


def credentials(authority: str = "authority.pem", caller: str = "") -> grpc.ChannelCredentials:
    def read(name: str) -> bytes:
        return (CERTIFICATES / name).read_bytes()

    pair = (read(f"{caller}-key.pem"), read(f"{caller}.pem")) if caller else (None, None)
    return grpc.ssl_channel_credentials(read(authority), *pair)


TOKEN, OTHER = "token-of-a-test-1", "token-of-a-test-2"


async def reflect(wire: Wire, metadata: Metadata) -> Any:
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    call = reflection_pb2_grpc.ServerReflectionStub(wire.channel).ServerReflectionInfo(
        iter([asked]), metadata=metadata, timeout=CALL_S
    )
    return await call.read()


async def watch(wire: Wire, metadata: Metadata) -> Any:
    call = wire.health.Watch(health_pb2.HealthCheckRequest(), metadata=metadata, timeout=CALL_S)
    answer = await call.read()
    call.cancel()
    return answer


def named(method: str) -> Callable[[Wire, Metadata], Awaitable[Any]]:
    body = {
        "ModelInfer": request("tiny", {"base": [1.0], "value": [2.0]}),
        "ModelReady": pb.ModelReadyRequest(name="tiny"),
        "ModelMetadata": pb.ModelMetadataRequest(name="tiny"),
    }.get(method, pb.ServerLiveRequest())
    return lambda wire, metadata: wire.call(method, body.SerializeToString(), metadata=metadata)


METHODS: Mapping[str, Callable[[Wire, Metadata], Awaitable[Any]]] = {
    **{method.name: named(method.name) for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods},
    "Check": lambda wire, metadata: wire.health.Check(
        health_pb2.HealthCheckRequest(), metadata=metadata, timeout=CALL_S
    ),
    "Watch": watch,
    "ServerReflectionInfo": reflect,
}


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


async def outcomes(wire: Wire, metadata: Metadata = ()) -> dict[str, grpc.StatusCode]:
    """Call every method of every service; return how each ended."""

    async def outcome(call: Callable[[Wire, Metadata], Awaitable[Any]]) -> grpc.StatusCode:
        try:
            await call(wire, metadata)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    return {name: await outcome(call) for name, call in METHODS.items()}


def all_are(code: grpc.StatusCode) -> dict[str, grpc.StatusCode]:
    return dict.fromkeys(METHODS, code)


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


def test_the_methods_tried_are_all_that_the_server_has() -> None:
    assert len(METHODS) == 6 + 2 + 1


@pytest.mark.parametrize("caller", ["", "foreign", "expired"])
async def test_without_a_valid_certificate_no_method_is_answered(caller: str) -> None:
    async with (
        serving(fake_service(tiny()), **MUTUAL, reflection=True) as plain,
        Wire(plain.target, credentials(caller=caller), name=NAME) as wire,
    ):
        assert await outcomes(wire) == all_are(grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ("caller.test", grpc.StatusCode.OK),
        ("other.test, caller.test", grpc.StatusCode.OK),
        ("other.test", grpc.StatusCode.PERMISSION_DENIED),
        ("tests only: caller", grpc.StatusCode.PERMISSION_DENIED),  # the common name counts only without others
        ("*.test", grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_only_callers_with_an_allowed_name_are_answered(names: str, code: grpc.StatusCode) -> None:
    async with (
        serving(fake_service(tiny()), **MUTUAL, client_names=names, reflection=True) as plain,
        Wire(plain.target, credentials(caller="caller"), name=NAME) as wire,
    ):
        assert await outcomes(wire) == all_are(code)


@pytest.fixture
def tokens(folder: Path) -> Path:
    """Return a file with two valid tokens."""
    file = folder / "tokens"
    file.write_text(f"{TOKEN}\n{OTHER}\n", encoding="ascii")
    return file


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        bearer(""),
        bearer(f"{TOKEN}x"),
        bearer(TOKEN[:-1]),
        (("authorization", TOKEN),),
        (("authorization", f"Basic {TOKEN}"),),
        bearer("wrong") + bearer(TOKEN),
    ],
)
async def test_without_a_valid_token_no_method_is_answered(tokens: Path, metadata: Metadata) -> None:
    async with (
        serving(fake_service(tiny()), **ENCRYPTED, token_file=tokens, reflection=True) as plain,
        Wire(plain.target, credentials(), name=NAME) as wire,
    ):
        assert await outcomes(wire, metadata) == all_are(grpc.StatusCode.UNAUTHENTICATED)


async def test_each_valid_token_opens_every_method(tokens: Path) -> None:
    async with (
        serving(fake_service(tiny()), **ENCRYPTED, token_file=tokens, reflection=True) as plain,
        Wire(plain.target, credentials(), name=NAME) as wire,
    ):
        for token in (TOKEN, OTHER):
            assert await outcomes(wire, bearer(token)) == all_are(grpc.StatusCode.OK)


def replace(file: Path, content: str | bytes) -> None:
    """Replace a file as `mv` does."""
    draft = file.with_name("draft")
    draft.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(draft, file)  # noqa: PTH105


async def test_a_replaced_token_is_valid_at_once_and_the_old_one_is_not(tokens: Path) -> None:
    metrics = Metrics.create()
    async with serving(fake_service(tiny()), metrics=metrics, token_file=tokens) as wire:
        replace(tokens, f"{OTHER}\n")
        assert (await outcomes(wire, bearer(OTHER)))["ModelInfer"] is grpc.StatusCode.OK
        assert metrics.registry.get_sample_value("serving_denied_total", {"reason": "token"}) is None
        refused = await outcomes(wire, bearer(TOKEN))
        assert refused["ModelInfer"] is grpc.StatusCode.UNAUTHENTICATED
        assert metrics.registry.get_sample_value("serving_denied_total", {"reason": "token"}) == len(refused)


@pytest.mark.parametrize("content", ["", "short", "two words in a line", "\N{PILE OF POO}" * 16])
async def test_a_useless_token_file_is_refused_at_start_and_ignored_later(
    tokens: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(fake_service(tiny()), token_file=tokens) as wire:
        replace(tokens, content)
        assert (await outcomes(wire, bearer(TOKEN)))["ModelInfer"] is grpc.StatusCode.OK
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    sentence = (
        f"SERVING_TOKEN_FILE={tokens}: must have one token a line, "
        "each of at least 16 letters, digits and -._~+/= characters."
    )
    assert record.getMessage() == f"{sentence} The server goes on with what it read before."
    with pytest.raises(SettingsError) as refusal:
        async with serving(fake_service(tiny()), token_file=tokens):
            pass
    assert str(refusal.value) == sentence


@pytest.fixture
def pair(folder: Path) -> dict[str, Any]:
    """Return settings with a copy of the server's certificate, to be replaced."""
    for name in ("server.pem", "server-key.pem"):
        shutil.copy(CERTIFICATES / name, folder / name)
    return {"tls_certificate": folder / "server.pem", "tls_key": folder / "server-key.pem"}


def renew(pair: Mapping[str, Path], name: str) -> None:
    replace(pair["tls_certificate"], (CERTIFICATES / f"{name}.pem").read_bytes())
    replace(pair["tls_key"], (CERTIFICATES / f"{name}-key.pem").read_bytes())


async def test_new_connections_get_a_renewed_certificate(pair: dict[str, Any]) -> None:
    async with serving(fake_service(tiny()), **pair) as plain:
        renew(pair, "foreign")
        async with Wire(plain.target, credentials("stranger.pem"), name=NAME) as wire:
            assert await wire.status() == SERVING
        async with Wire(plain.target, credentials(), name=NAME) as wire:
            assert await refused(wire)


async def test_a_useless_new_certificate_leaves_the_old_one_and_is_reported_once(
    pair: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(fake_service(tiny()), **pair) as plain:
        replace(pair["tls_key"], "nonsense")
        for _ in range(3):
            async with Wire(plain.target, credentials(), name=NAME) as wire:
                assert await wire.status() == SERVING
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "are not a certificate and its key" in record.getMessage()
    assert record.getMessage().endswith("The server goes on with what it read before.")


async def test_no_call_is_lost_while_the_certificate_changes(pair: dict[str, Any]) -> None:
    body = request("tiny", {"base": [1.0], "value": [2.0]})
    both = (CERTIFICATES / "authority.pem").read_bytes() + (CERTIFICATES / "stranger.pem").read_bytes()
    done = asyncio.Event()
    answered = 0

    async def load(target: str, *, reconnect: bool) -> None:
        nonlocal answered
        trusted = grpc.ssl_channel_credentials(both)
        while not done.is_set():
            async with Wire(target, trusted, name=NAME) as wire:
                assert floats(await wire.infer(body)) == [3.0]
                while not reconnect and not done.is_set():
                    assert floats(await wire.infer(body)) == [3.0]
            answered += 1

    async with serving(fake_service(tiny()), **pair) as plain, asyncio.TaskGroup() as callers:
        for number in range(4):
            callers.create_task(load(plain.target, reconnect=number < 3))
        for number in range(1, 7):
            renew(pair, "foreign" if number % 2 else "server")
            while answered < 5 * number:
                await asyncio.sleep(0)
        done.set()
    assert answered >= 30


MODES: Mapping[str, dict[str, Any]] = {
    "plaintext": {},
    "TLS": ENCRYPTED,
    "mutual TLS": MUTUAL,
    "names": MUTUAL | {"client_names": "caller.test"},
}


@pytest.mark.parametrize("mode", MODES)
async def test_the_health_check_of_the_image_follows_the_server_in_every_mode(
    folder: Path, tokens: Path, mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    socket = f"unix:{folder / 'health.sock'}"
    health = ["health", "--target", socket, "--timeout", "30"]
    async with serving(fake_service(tiny()), **MODES[mode], token_file=tokens, health_socket=socket):
        assert await asyncio.to_thread(main, health) == 0
        async with Wire(socket) as wire:
            code, _ = await wire.refused("ServerLive", b"")
        assert code is grpc.StatusCode.UNIMPLEMENTED  # health only
    async with serving(NoModel("none"), **MODES[mode], health_socket=socket):
        assert await asyncio.to_thread(main, health) == 1
    assert "NOT_SERVING" in capfd.readouterr().out


async def test_a_health_socket_that_cannot_be_made_is_reported(folder: Path) -> None:
    socket = f"unix:{folder / 'missing' / 'health.sock'}"
    with pytest.raises(SettingsError) as refusal:
        async with serving(fake_service(tiny()), health_socket=socket):
            pass
    assert str(refusal.value) == (
        f"SERVING_HEALTH_SOCKET={quoted(socket)}: can't listen there; is another server in this container? "
        "Choose another path, in a folder that can be written."
    )


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", "[::1]", "::", "[::]"])
async def test_it_listens_on_ipv6(host: str) -> None:
    async with (
        serving(fake_service(tiny()), host=host, plaintext="allowed") as plain,
        Wire(f"[::1]:{plain.target.rpartition(':')[2]}") as wire,
    ):
        assert await wire.status() == SERVING


async def test_an_address_of_another_machine_is_not_called_a_taken_port() -> None:
    with pytest.raises(SettingsError, match=r"^SERVING_HOST=192\.0\.2\.1: can't listen on 192\.0\.2\.1:0 \("):
        async with serving(fake_service(tiny()), host="192.0.2.1", plaintext="allowed"):
            pass
