"""What a caller gets from a healthy server."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from serving_client import AsyncClient, Cancelled, Client, InvalidRequest, NotFound, TensorMetadata, Tls
from tests.platform.support.callers import PATIENCE_S
from tests.platform.support.fake_server import DIGEST, MODEL, FakeServer, Hold, refuse

from .conftest import Connect, Serve

ONE = {"numbers": [1.0]}
OTHERS = (("words", "BYTES", [-1]),)


async def test_the_answer_has_the_values_and_names_its_model(server: FakeServer, connect: Connect) -> None:
    server.parameters["defaulted_features"] = '{"age":[0,2]}'
    answer = await connect(server.target).predict({"numbers": [1, 2.5]}, timeout=PATIENCE_S)
    np.testing.assert_array_equal(answer["numbers"], np.array([1, 2.5], np.float32))
    assert (answer.model, answer.model_version, answer.artifact_digest) == (MODEL, "1", DIGEST)
    assert answer.defaulted == {"age": (0, 2)}


async def test_metadata_describe_the_model(server: FakeServer, connect: Connect) -> None:
    metadata = await connect(server.target).metadata(timeout=PATIENCE_S)
    assert metadata.inputs == metadata.outputs == (TensorMetadata("numbers", "FP32", (-1,)),)
    assert (metadata.name, metadata.versions, metadata.platform) == (MODEL, ("1",), "fake")
    assert metadata.properties == {"numbers.unit": "mm"}


async def test_metadata_are_requested_once(server: FakeServer, connect: Connect) -> None:
    client = connect(server.target)
    for _ in range(3):
        await client.predict(ONE, timeout=PATIENCE_S)
    assert len(server.request_ids("ModelMetadata")) == 1


async def test_the_request_id_is_sent_and_returned(server: FakeServer, connect: Connect) -> None:
    client = connect(server.target)
    answer = await client.predict(ONE, timeout=PATIENCE_S, request_id="order-66")
    assert (answer.request_id, server.request_ids("ModelInfer")) == ("order-66", ["order-66"])
    made_up = (await client.predict(ONE, timeout=PATIENCE_S)).request_id
    assert made_up
    assert server.request_ids("ModelInfer")[-1] == made_up


async def test_an_error_has_the_request_id(server: FakeServer, connect: Connect) -> None:
    server.script("ModelInfer", refuse(grpc.StatusCode.INTERNAL))
    with pytest.raises(Exception, match="as scripted") as caught:
        await connect(server.target).predict(ONE, timeout=PATIENCE_S, request_id="order-66")
    assert (caught.value.request_id, caught.value.code) == ("order-66", "INTERNAL")


async def test_an_unknown_model_is_not_found(server: FakeServer, connect: Connect) -> None:
    with pytest.raises(NotFound, match="model 'other' is not served here"):
        await connect(server.target, model="other").predict(ONE, timeout=PATIENCE_S)


async def test_an_invalid_request_is_refused_before_it_is_sent(server: FakeServer, connect: Connect) -> None:
    with pytest.raises(InvalidRequest, match="'numbers': row 1 has None"):
        await connect(server.target).predict({"numbers": [1.0, None]}, timeout=PATIENCE_S)
    assert server.request_ids("ModelInfer") == []


async def test_a_new_signature_is_picked_up(server: FakeServer, connect: Connect) -> None:
    client = connect(server.target)
    await client.predict(ONE, timeout=PATIENCE_S)
    server.specs = OTHERS
    answer = await client.predict({"words": ["one"]}, timeout=PATIENCE_S)
    assert answer["words"].tolist() == [b"one"]
    with pytest.raises(InvalidRequest, match="'numbers' is unknown; the inputs are words"):
        await client.predict(ONE, timeout=PATIENCE_S)


async def test_a_signature_that_changes_during_a_call_is_picked_up(server: FakeServer, connect: Connect) -> None:
    client = connect(server.target)
    server.specs = (("numbers", "FP64", [-1]),)
    await client.predict(ONE, timeout=PATIENCE_S)
    server.specs = (("numbers", "FP32", [-1]),)
    server.script("ModelInfer", refuse(grpc.StatusCode.INVALID_ARGUMENT, "FP64 is sent, must be FP32."))
    answer = await client.predict(ONE, timeout=PATIENCE_S)
    assert answer["numbers"].dtype == np.float32


async def test_a_refusal_stands_if_the_model_has_not_changed(server: FakeServer, connect: Connect) -> None:
    client = connect(server.target)
    await client.predict(ONE, timeout=PATIENCE_S)
    server.script("ModelInfer", refuse(grpc.StatusCode.INVALID_ARGUMENT, "too small."))
    with pytest.raises(InvalidRequest, match=r"^too small\.$"):
        await client.predict(ONE, timeout=PATIENCE_S)
    assert len(server.request_ids("ModelInfer")) == 2


async def test_a_refusal_stands_if_the_metadata_can_not_be_read_again(server: FakeServer, connect: Connect) -> None:
    client = connect(server.target)
    await client.predict(ONE, timeout=PATIENCE_S)
    server.script("ModelMetadata", refuse(grpc.StatusCode.INTERNAL))
    with pytest.raises(InvalidRequest, match="'letters' is unknown"):
        await client.predict({"letters": ["a"]}, timeout=PATIENCE_S)


async def test_a_request_beyond_the_servers_limit_is_invalid(serve: Serve, connect: Connect) -> None:
    server = serve(max_request_bytes=1_000)
    with pytest.raises(InvalidRequest, match="the server takes at most 1000; send fewer rows at a time"):
        await connect(server.target).predict({"numbers": np.zeros(1_000)}, timeout=PATIENCE_S)


async def test_an_answer_may_be_larger_than_the_default_limit_of_grpc(server: FakeServer, connect: Connect) -> None:
    rows = 1_500_000  # 6 MB
    answer = await connect(server.target).predict({"numbers": np.ones(rows)}, timeout=PATIENCE_S)
    assert len(answer["numbers"]) == rows


async def test_closing_the_client_ends_calls_in_flight(server: FakeServer, connect: Connect) -> None:
    hold = Hold()
    server.script("ModelInfer", hold)
    client = connect(server.target)
    call = asyncio.create_task(client.predict(ONE, timeout=PATIENCE_S))
    await asyncio.to_thread(hold.wait_entered)
    await client.close()
    with pytest.raises(Cancelled):
        await call


async def test_a_client_closed_just_before_a_call_is_sent_reports_that(
    server: FakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(server.target)
    await client.predict(ONE, timeout=PATIENCE_S)
    for kind in (Client, AsyncClient):
        monkeypatch.setattr(kind, "_check_open", lambda self: None)
    await client.close()
    with pytest.raises(Cancelled, match=r"^the client is closed; make a new one\.$"):
        await client.predict(ONE, timeout=PATIENCE_S)


async def test_a_given_channel_is_used_and_stays_open(server: FakeServer) -> None:
    async with grpc.aio.insecure_channel(server.target) as channel:
        for _ in range(2):
            async with AsyncClient(channel=channel, model=MODEL) as client:
                assert await client.is_ready(timeout=PATIENCE_S)
                assert await client.predict(ONE, timeout=PATIENCE_S)
            with pytest.raises(Cancelled, match=r"^the client is closed; make a new one\.$"):
                await client.predict(ONE, timeout=PATIENCE_S)


def test_a_given_blocking_channel_is_used_and_stays_open(server: FakeServer) -> None:
    with grpc.insecure_channel(server.target) as channel:
        for _ in range(2):
            with Client(channel=channel, model=MODEL) as client:
                assert client.is_ready(timeout=PATIENCE_S)
                assert client.predict(ONE, timeout=PATIENCE_S)
            with pytest.raises(Cancelled, match=r"^the client is closed; make a new one\.$"):
                client.predict(ONE, timeout=PATIENCE_S)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_exactly_one_of_target_and_channel_is_given(kind: type[Client | AsyncClient]) -> None:
    channel: Any = object()
    for options, sentence in [
        ({}, "target and channel: neither is given; give exactly one of them."),
        ({"target": "a:1", "channel": channel}, "target and channel: both are given; give exactly one of them."),
        (
            {"channel": channel, "tls": Tls()},
            "tls: a channel brings its own credentials; leave tls out, or give a target.",
        ),
    ]:
        with pytest.raises(InvalidRequest) as caught:
            kind(**options)
        assert str(caught.value) == sentence


async def test_cancelling_a_task_cancels_its_call(server: FakeServer) -> None:
    hold = Hold()
    server.script("ModelInfer", hold)
    async with AsyncClient(server.target, model=MODEL) as client:
        call = asyncio.create_task(client.predict(ONE, timeout=PATIENCE_S))
        await asyncio.to_thread(hold.wait_entered)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.to_thread(hold.wait_over)


def test_threads_share_a_client_and_each_gets_its_own_answer(server: FakeServer) -> None:
    with Client(server.target, model=MODEL) as client, ThreadPoolExecutor(8) as threads:

        def ask(number: int) -> float:
            return float(client.predict({"numbers": [number]}, timeout=PATIENCE_S)["numbers"][0])

        assert list(threads.map(ask, range(100))) == list(range(100))
