from __future__ import annotations

from pathlib import Path

import pytest

from serving.domain.errors import SettingsError, UnresolvedReference
from serving.domain.references import Reference, write_lock
from serving.online.settings import load_settings
from serving.prediction.fallback import Fallback

HEX = "0123456789abcdef" * 4
PINNED = f"local:my-model/3#sha256={HEX}"

Environment = pytest.MonkeyPatch


def refusal(environment: Environment, **variables: str) -> str:
    """Return the message that refuses this environment."""
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    return str(refused.value)


def test_every_setting_has_a_default_that_suits_production() -> None:
    settings = load_settings()
    assert (settings.grpc_port, settings.metrics_port, settings.host) == (8001, 8002, "127.0.0.1")
    assert not settings.reflection
    assert settings.unknown_entity is Fallback.DEFAULT
    assert settings.feature_timeout < settings.call_timeout


def test_settings_come_from_the_environment(monkeypatch: Environment) -> None:
    monkeypatch.setenv("SERVING_GRPC_PORT", "9001")
    monkeypatch.setenv("SERVING_UNKNOWN_ENTITY", "refuse")
    monkeypatch.setenv("SERVING_REFLECTION", "true")
    settings = load_settings()
    assert (settings.grpc_port, settings.unknown_entity, settings.reflection) == (9001, Fallback.REFUSE, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVING_GRPC_PORT", "80a"),
        ("SERVING_GRPC_PORT", "65536"),
        ("SERVING_METRICS_PORT", "-1"),
        ("SERVING_FEATURE_TIMEOUT", "0"),
        ("SERVING_FEATURE_TIMEOUT", "soon"),
        ("SERVING_FEATURE_TIMEOUT", "nan"),
        ("SERVING_UNKNOWN_ENTITY", "ignore"),
        ("SERVING_MAX_ROWS", "0"),
        ("SERVING_MAX_ROWS", "1.5"),
        ("SERVING_MAX_RUNNING", "0"),
        ("SERVING_MAX_QUEUED", "-1"),
        ("SERVING_CALL_TIMEOUT", "inf"),
        ("SERVING_CALL_TIMEOUT", "-5"),
        ("SERVING_DRAIN", "301"),
        ("SERVING_GRACE", "-1"),
        ("SERVING_MODEL_THREADS", "0"),
        ("SERVING_REFLECTION", "maybe"),
        ("SERVING_PLAINTEXT", "true"),
        ("SERVING_HEALTH_SOCKET", "0.0.0.0:1"),
        ("SERVING_LOG_LEVEL", "LOUD"),
        ("SERVING_LOG_LEVEL", "info\x1b[31m"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence_with_variable_and_value(
    monkeypatch: Environment, name: str, value: str
) -> None:
    sentence = refusal(monkeypatch, **{name: value})
    assert sentence.startswith(f"{name}={value!a}: ")
    assert sentence.endswith(".")
    assert sentence.isprintable()


def test_all_faults_are_reported_at_once(monkeypatch: Environment) -> None:
    sentence = refusal(monkeypatch, SERVING_GRPC_PORT="x", SERVING_MAX_ROWS="y", SERVING_TYPO="z")
    assert all(word in sentence for word in ("SERVING_GRPC_PORT='x'", "SERVING_MAX_ROWS='y'", "SERVING_TYPO"))


def test_an_unknown_variable_is_refused(monkeypatch: Environment) -> None:
    sentence = refusal(monkeypatch, SERVING_GRPC_PROT="8001")
    assert sentence.startswith("SERVING_GRPC_PROT is not a setting; remove it")


def test_the_variables_of_kubernetes_services_are_ignored(monkeypatch: Environment) -> None:
    """Kubernetes sets them in each pod for a Service named `serving`, or `serving-...`, in its namespace."""
    for name, value in {
        "SERVING_SERVICE_HOST": "10.0.0.11",
        "SERVING_SERVICE_PORT": "8001",
        "SERVING_SERVICE_PORT_GRPC": "8001",
        "SERVING_PORT": "tcp://10.0.0.11:8001",
        "SERVING_PORT_8001_TCP": "tcp://10.0.0.11:8001",
        "SERVING_PORT_8001_TCP_PROTO": "tcp",
        "SERVING_PORT_8001_TCP_PORT": "8001",
        "SERVING_PORT_8001_TCP_ADDR": "10.0.0.11",
        "SERVING_CANARY_SERVICE_HOST": "10.0.0.12",
        "SERVING_CANARY_PORT": "udp://10.0.0.12:53",
    }.items():
        monkeypatch.setenv(name, value)
    load_settings()


@pytest.mark.parametrize(("name", "value"), [("SERVING_PORT", "8001"), ("SERVING_HTTP_PORT", "8000")])
def test_a_port_that_is_no_address_of_a_service_is_not_ignored(monkeypatch: Environment, name: str, value: str) -> None:
    assert f"{name} is not a setting" in refusal(monkeypatch, **{name: value})


@pytest.mark.parametrize("name", ["SERVING_MODEL_VERSION", "SERVING_MODEL_SHA256"])
def test_well_known_variables_have_no_prefix(monkeypatch: Environment, name: str) -> None:
    assert f"{name} is not a setting" in refusal(monkeypatch, **{name: "1"})


def test_the_clients_own_variable_may_be_set_where_a_server_starts(monkeypatch: Environment) -> None:
    monkeypatch.setenv("SERVING_TARGET", "localhost:8001")
    load_settings()


@pytest.mark.parametrize(
    "halves",
    [
        {"SERVING_TLS_CERTIFICATE": "c.pem"},
        {"SERVING_TLS_KEY": "k.pem"},
        {"SERVING_TLS_CLIENT_CA": "ca.pem"},
        {"SERVING_TLS_CLIENT_CA": "ca.pem", "SERVING_TLS_CERTIFICATE": "c.pem"},
    ],
)
def test_certificate_and_key_must_be_set_together(monkeypatch: Environment, halves: dict[str, str]) -> None:
    assert refusal(monkeypatch, **halves).startswith("SERVING_TLS_CERTIFICATE and SERVING_TLS_KEY go together")


TLS = {"SERVING_TLS_CERTIFICATE": "c.pem", "SERVING_TLS_KEY": "k.pem"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "10.0.0.7", "model.internal"])  # noqa: S104
def test_plaintext_off_loopback_needs_a_setting_that_accepts_it(monkeypatch: Environment, host: str) -> None:
    sentence = refusal(monkeypatch, SERVING_HOST=host)
    assert sentence.startswith(f"SERVING_HOST='{host}' without TLS: its network can read and change every call")
    assert sentence.endswith("or accept that with SERVING_PLAINTEXT=allowed.")
    monkeypatch.setenv("SERVING_PLAINTEXT", "allowed")
    assert load_settings().host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_plaintext_on_loopback_needs_none(monkeypatch: Environment, host: str) -> None:
    monkeypatch.setenv("SERVING_HOST", host)
    assert load_settings().host == host


def test_a_token_is_never_sent_in_plaintext_over_a_network(monkeypatch: Environment) -> None:
    sentence = refusal(
        monkeypatch,
        SERVING_HOST="0.0.0.0",  # noqa: S104
        SERVING_PLAINTEXT="allowed",
        SERVING_TOKEN_FILE="tokens",
    )
    assert sentence.startswith("SERVING_TOKEN_FILE without TLS: ")
    for name, value in TLS.items():
        monkeypatch.setenv(name, value)
    assert load_settings().token_file == Path("tokens")


def test_client_names_need_client_certificates(monkeypatch: Environment) -> None:
    assert refusal(monkeypatch, SERVING_CLIENT_NAMES="a, b", **TLS).startswith("SERVING_CLIENT_NAMES needs client")
    monkeypatch.setenv("SERVING_TLS_CLIENT_CA", "ca.pem")
    assert load_settings().names() == {"a", "b"}


def test_an_empty_path_is_as_good_as_none(monkeypatch: Environment) -> None:
    for name in ("SERVING_TLS_CERTIFICATE", "SERVING_TLS_KEY", "SERVING_TLS_CLIENT_CA", "SERVING_TOKEN_FILE"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert (settings.tls_key, settings.tls_client_ca, settings.token_file) == (None, None, None)


def test_the_lock_says_what_is_served(monkeypatch: Environment, folder: Path) -> None:
    write_lock(folder / "model.lock", Reference.parse(PINNED))
    monkeypatch.setenv("SERVING_MODEL_LOCK", str(folder / "model.lock"))
    assert str(load_settings().reference()) == PINNED


def test_a_full_reference_in_the_environment_overrides_the_lock(monkeypatch: Environment) -> None:
    monkeypatch.setenv("MODEL_VERSION", PINNED)
    monkeypatch.setenv("SERVING_MODEL_LOCK", "nowhere")
    assert str(load_settings().reference()) == PINNED


@pytest.mark.parametrize("digest", [HEX, f"sha256={HEX}"])
def test_a_bare_version_with_its_digest_takes_the_rest_from_the_lock(
    monkeypatch: Environment, folder: Path, digest: str
) -> None:
    write_lock(folder / "model.lock", Reference.parse(f"local:my-model/9#sha256={'0' * 64}"))
    monkeypatch.setenv("SERVING_MODEL_LOCK", str(folder / "model.lock"))
    monkeypatch.setenv("MODEL_VERSION", "3")
    monkeypatch.setenv("MODEL_SHA256", digest)
    assert str(load_settings().reference()) == PINNED


@pytest.mark.parametrize("digest", ["", "abc", HEX[:-1], f"md5={HEX}"])
def test_a_bare_version_without_its_digest_is_refused_with_the_line_to_write(
    monkeypatch: Environment, digest: str
) -> None:
    monkeypatch.setenv("MODEL_VERSION", "3")
    monkeypatch.setenv("MODEL_SHA256", digest)
    with pytest.raises(UnresolvedReference, match=r"MODEL_VERSION='3' .*set MODEL_SHA256=<64 hex digits>"):
        load_settings().reference()


@pytest.mark.parametrize("text", ["local:my-model/3", "local:my-model@production", f"file:///x#sha256={HEX}"])
def test_a_reference_in_the_environment_must_be_pinned_too(monkeypatch: Environment, text: str) -> None:
    monkeypatch.setenv("MODEL_VERSION", text)
    with pytest.raises(UnresolvedReference, match="scheme:model/version#sha256="):
        load_settings().reference()


@pytest.mark.parametrize("version", ["../3", "3\r\nforged", "a b"])
def test_an_invalid_bare_version_is_refused(monkeypatch: Environment, folder: Path, version: str) -> None:
    write_lock(folder / "model.lock", Reference.parse(PINNED))
    monkeypatch.setenv("SERVING_MODEL_LOCK", str(folder / "model.lock"))
    monkeypatch.setenv("MODEL_VERSION", version)
    monkeypatch.setenv("MODEL_SHA256", HEX)
    with pytest.raises(UnresolvedReference) as refused:
        load_settings().reference()
    assert str(refused.value).isprintable()
