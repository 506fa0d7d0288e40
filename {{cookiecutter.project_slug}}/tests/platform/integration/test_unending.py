"""A call that would run for ever: it is ended, or the process ends, and nobody else waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc

from serving.domain.artifacts import GoldenRows
from serving.domain.tensors import Datatype
from serving.online.grpc.proto import open_inference_pb2 as pb
from tests.platform.support.artifacts import slow
from tests.platform.support.server import PATIENCE_S, ServerProcess
from tests.platform.support.stubborn import FOR_EVER
from tests.platform.support.wire import NOT_SERVING, SERVING, Wire, request

STUBBORN = "tests.platform.support.stubborn"


def ask(steps: int) -> bytes:
    asked: pb.ModelInferRequest = request("slow", {"steps": [steps]}, datatypes={"steps": Datatype.INT64})
    return asked.SerializeToString()


async def test_a_call_is_ended_at_its_deadline_and_the_next_one_is_answered(folder: Path) -> None:
    slow().lay_out(folder)
    with ServerProcess(folder, SERVING_CALL_TIMEOUT="0.5") as server:
        async with Wire(server.target) as wire:
            for _ in range(3):
                code, text = await wire.refused("ModelInfer", ask(FOR_EVER))
                assert code is grpc.StatusCode.DEADLINE_EXCEEDED
                assert "the model did not answer within" in text
                assert await wire.call("ModelInfer", ask(1)).code() is grpc.StatusCode.OK
            assert await wire.status() == SERVING
        assert server.metrics()["serving_in_flight"] == 0
        assert server.stop() == 0


async def test_a_call_whose_caller_gave_up_is_ended(folder: Path) -> None:
    slow().lay_out(folder)
    with ServerProcess(folder, SERVING_CALL_TIMEOUT="3600") as server:
        async with Wire(server.target) as wire:
            call = wire.call("ModelInfer", ask(FOR_EVER), timeout=3600)
            async with asyncio.timeout(PATIENCE_S):
                while (await asyncio.to_thread(server.metrics))["serving_in_flight"] != 1:
                    assert server.running
            call.cancel()
            assert await wire.call("ModelInfer", ask(1), timeout=3600).code() is grpc.StatusCode.OK


async def test_a_model_that_can_t_be_ended_turns_not_serving_and_ends_the_process(folder: Path) -> None:
    slow().lay_out(folder)
    with ServerProcess(folder, module=STUBBORN, STUBBORN_ROWS="0", SERVING_CALL_TIMEOUT="0.3") as server:
        async with Wire(server.target) as wire:
            assert await wire.call("ModelInfer", ask(1)).code() is grpc.StatusCode.OK
            statuses = wire.watch()
            assert await anext(statuses) == SERVING
            call = wire.call("ModelInfer", ask(FOR_EVER), timeout=3600)
            assert await anext(statuses) == NOT_SERVING
            assert await call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert server.wait() == 1
        assert "error: a model call has run for 1." in server.log
        assert "can't be ended; the longest is SERVING_CALL_TIMEOUT=0.3. The process ends" in server.log
        assert server.lines[-1].startswith("error: ")  # no traceback after it


async def test_a_model_that_blocks_the_event_loop_ends_the_process_too(folder: Path) -> None:
    slow().lay_out(folder)
    with ServerProcess(folder, module=STUBBORN, STUBBORN_ROWS="9", SERVING_CALL_TIMEOUT="0.3") as server:
        async with Wire(server.target) as wire:
            assert await wire.call("ModelInfer", ask(1)).code() is grpc.StatusCode.OK
            call = wire.call("ModelInfer", ask(FOR_EVER), timeout=3600)
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert server.wait() == 1
        assert "Timeout (0:00:01" in server.log
        assert "stubborn.py" in server.log  # it says where the process was


async def test_a_model_that_never_ends_its_first_call_does_not_hold_up_the_end(folder: Path) -> None:
    model = slow()
    golden = GoldenRows(("a",), {"steps": [FOR_EVER]}, {"done": [FOR_EVER]})
    replace(model, golden=golden).lay_out(folder)
    with ServerProcess(folder, module=STUBBORN, STUBBORN_ROWS="0") as server:
        await asyncio.to_thread(server.wait_for, lambda record: record.get("message") == "sleeping")
        assert server.stop() == 0
