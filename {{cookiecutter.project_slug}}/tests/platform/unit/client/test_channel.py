"""Every option of the channel prevents an outage that was measured without it; none may be lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving_client import InvalidRequest, Tls
from serving_client.channel import OPTIONS, WITH_RETRIES, address

CONFIG: dict[str, Any] = json.loads(dict(WITH_RETRIES)["grpc.service_config"])
METHOD: dict[str, Any] = CONFIG["methodConfig"][0]


@pytest.mark.parametrize(
    ("option", "value", "without_it"),
    [
        ("grpc.dns_min_time_between_resolutions_ms", 1_000, "a server that moved is found after 23 s, not 1 s"),
        ("grpc.initial_reconnect_backoff_ms", 100, "a restarted server waits for the backoff"),
        ("grpc.min_reconnect_backoff_ms", 1_000, "an address that is gone holds the connection for 20 s"),
        ("grpc.max_reconnect_backoff_ms", 1_000, "attempts come up to 120 s apart"),
        ("grpc.keepalive_time_ms", 30_000, "a server that vanishes without a word is not noticed in 113 s"),
        ("grpc.keepalive_timeout_ms", 3_000, "a dead connection is held for 20 s more"),
        ("grpc.per_rpc_retry_buffer_size", 2**31 - 1, "a request of more than 256 KiB is never retried"),
        ("grpc.max_receive_message_length", -1, "an answer of more than 4 MiB is lost"),
        ("grpc.max_send_message_length", -1, "the client has a limit that the server does not know"),
    ],
)
def test_options_for_calls_and_for_health(option: str, value: int, without_it: str) -> None:
    assert dict(OPTIONS)[option] == value, without_it
    assert dict(WITH_RETRIES)[option] == value, without_it


def test_keepalive_pings_are_no_more_frequent_than_our_server_allows() -> None:
    from serving.online.grpc.server import options

    allowed = dict(options(1, 1.0))["grpc.http2.min_ping_interval_without_data_ms"]
    assert dict(OPTIONS)["grpc.keepalive_time_ms"] > allowed, "the server would end the connection: too_many_pings"


@pytest.mark.parametrize(
    ("key", "value", "without_it"),
    [
        ("loadBalancingConfig", [{"round_robin": {}}], "one address gets all calls; another is never used"),
        (
            "healthCheckConfig",
            {"serviceName": "inference.GRPCInferenceService"},
            "a server that drains gets new calls",
        ),
        ("retryThrottling", {"maxTokens": 1000, "tokenRatio": 0.1}, "10 tokens lost 173 calls in an ordinary restart"),
    ],
)
def test_service_config(key: str, value: object, without_it: str) -> None:
    assert CONFIG[key] == value, without_it


def test_every_method_waits_for_a_connection_and_is_retried() -> None:
    assert METHOD["name"] == [{}]
    assert METHOD["waitForReady"] is True, "all 50 calls in flight were lost when a server was killed and restarted"
    assert METHOD["retryPolicy"]["maxAttempts"] == 4, "the same"


def test_only_calls_that_no_server_has_processed_are_retried() -> None:
    codes = METHOD["retryPolicy"]["retryableStatusCodes"]
    assert set(codes) == {"UNAVAILABLE", "CANCELLED"}, "retried RESOURCE_EXHAUSTED tripled an overloaded server's load"


def test_the_timeout_is_not_in_the_service_config() -> None:
    assert "timeout" not in METHOD, "retried calls expired after 3.6 of 5 s: grpc issue 40633"


def test_health_checks_have_no_service_config() -> None:
    assert "grpc.service_config" not in dict(OPTIONS), "a server that is not SERVING could not be asked how it is"


@pytest.mark.parametrize("target", ["localhost:8001", "model-server:8001", "10.0.0.7:8001", "[::1]:8001", "a.b:1"])
def test_host_and_port_are_resolved_by_dns(target: str) -> None:
    assert address(target) == f"dns:///{target}"


@pytest.mark.parametrize(
    "target",
    ["dns:///model:8001", "dns://10.0.0.1/model:8001", "ipv4:127.0.0.1:1,127.0.0.1:2", "ipv6:[::1]:1", "unix:/run/x"],
)
def test_target_forms_of_grpc_are_kept(target: str) -> None:
    assert address(target) == target


@pytest.mark.parametrize(
    "target", ["", "localhost", ":8001", "localhost:", "localhost:http", "http://localhost:8001", "a b:1", "a:1\n"]
)
def test_a_target_that_is_not_an_address_is_refused(target: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        address(target)
    assert str(caught.value) == f"target {target!a} is not an address; write host:port, for example localhost:8001."


def test_certificate_and_key_go_together() -> None:
    with pytest.raises(InvalidRequest, match=r"^tls: certificate and key go together; give both or neither\.$"):
        Tls(certificate="cert.pem").credentials()


@pytest.mark.parametrize(("name", "tls"), [("ca", Tls(ca="no.pem")), ("key", Tls(certificate="no", key="no.pem"))])
def test_an_unreadable_file_is_named(name: str, tls: Tls) -> None:
    with pytest.raises(InvalidRequest) as caught:
        tls.credentials()
    assert str(caught.value) == f"tls: {name} 'no.pem' can't be read (No such file or directory)."


def test_a_file_that_is_not_pem_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"^tls: ca '.*test_channel\.py' is not a PEM file\.$"):
        Tls(ca=__file__).credentials()


def test_the_servers_name_is_an_option_of_the_channel() -> None:
    assert Tls(server_name="model.test").options() == (("grpc.ssl_target_name_override", "model.test"),)
    assert Tls().options() == ()
