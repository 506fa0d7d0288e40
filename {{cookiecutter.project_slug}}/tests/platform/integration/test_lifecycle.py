from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np

from serving.domain.settings import default_store_url
from serving.domain.tensors import Datatype
from serving.online.grpc.proto import open_inference_pb2 as pb
from tests.platform.support.artifacts import slow
from tests.platform.support.server import PATIENCE_S, ServerProcess
from tests.platform.support.wire import NOT_SERVING, SERVING, Wire, request
from tests.platform.support.workspace import THIS_REPO, environment

CALLS = 50
PATIENCE = {"SERVING_GRACE": "60", "SERVING_CALL_TIMEOUT": "60"}
FOR_EVER = 10**12

# In a separate process, which once crashed when a server was stopped twice at the same time.
HURRIED_ENDS = """
import asyncio

from serving.online.grpc.server import GrpcServer
from serving.online.inference import NoModel
from serving.online.settings import Settings
from serving.online.telemetry import Metrics
from tests.platform.support.wire import Wire


async def main() -> None:
    hurry = asyncio.Event()
    hurry.set()
    for _ in range(300):
        free = {name: 0 for name in Settings.model_fields if name.endswith("_port")}
        server = GrpcServer(Settings(**free), NoModel("none"), Metrics.create())
        ports = await server.start()
        async with Wire(f"127.0.0.1:{ports['grpc_port']}") as wire:
            await wire.status()
        await server.drain(hurry)
    print("ended")


asyncio.run(main())
"""


def ask(steps: int) -> pb.ModelInferRequest:
    return request("slow", {"steps": [steps]}, datatypes={"steps": Datatype.INT64})


def done(answer: pb.ModelInferResponse) -> int:
    return int(np.frombuffer(answer.raw_output_contents[0], np.int64)[0])


async def steps_of_a_second(wire: Wire) -> int:
    """Return about how many steps the model takes in a second: machines differ."""
    steps = 20_000
    loop = asyncio.get_running_loop()
    start = loop.time()
    await wire.infer(ask(steps))
    return int(steps / (loop.time() - start))


def in_flight(server: ServerProcess) -> float:
    page = server.metrics()
    return page["serving_in_flight"] + page["serving_queued"]


async def until_in_flight(server: ServerProcess, count: int) -> None:
    """Wait until the server says that it has so many calls."""
    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.to_thread(in_flight, server) != count:
            assert server.running


async def test_fifty_calls_in_flight_are_all_answered_before_the_server_ends(folder: Path) -> None:
    slow().lay_out(folder)
    with ServerProcess(folder, **PATIENCE) as server:
        async with Wire(server.target) as wire:
            second = await steps_of_a_second(wire)
            # One call occupies the model while the others arrive.
            steps = [2 * second, *range(1, CALLS)]
            calls = [asyncio.create_task(wire.infer(ask(count))) for count in steps]
            await until_in_flight(server, CALLS)
            server.signal(signal.SIGTERM)
            answers = await asyncio.gather(*calls)
            assert [done(answer) for answer in answers] == steps
        assert server.wait() == 0
        assert "Traceback" not in server.log


async def test_health_turns_not_serving_before_new_calls_are_refused(folder: Path) -> None:
    slow().lay_out(folder)
    with ServerProcess(folder, SERVING_DRAIN="300") as server:
        async with Wire(server.target) as wire:
            statuses = wire.watch()
            assert await anext(statuses) == SERVING
            server.signal(signal.SIGTERM)
            assert await anext(statuses) == NOT_SERVING  # before any call is refused
            for name in ("", "slow", "inference.GRPCInferenceService"):
                assert await wire.status(name) == NOT_SERVING
            assert done(await wire.infer(ask(7))) == 7
            assert server.metrics()["serving_ready"] == 0
            await statuses.aclose()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


async def test_a_caller_who_watches_the_health_does_not_hold_up_the_end(folder: Path) -> None:
    slow().lay_out(folder)
    with ServerProcess(folder, SERVING_GRACE="3600") as server:
        async with Wire(server.target) as wire:
            watching = [wire.watch(), wire.watch("slow")]
            assert [await anext(statuses) for statuses in watching] == [SERVING, SERVING]
            server.signal(signal.SIGTERM)
            told = [[status async for status in statuses] for statuses in watching]
        assert told == [[NOT_SERVING], [NOT_SERVING]]  # and then the stream ends, without an error
        assert server.wait() == 0


async def test_a_watcher_who_leaves_does_not_silence_the_others(folder: Path) -> None:
    slow().lay_out(folder)
    with ServerProcess(folder) as server:
        async with Wire(server.target) as wire:
            stays, leaves = wire.watch(), wire.watch()
            assert [await anext(statuses) for statuses in (stays, leaves)] == [SERVING, SERVING]
            await leaves.aclose()
            for _ in range(20):  # the server hears of the end before it answers these
                assert await wire.status() == SERVING
            server.signal(signal.SIGTERM)
            assert [status async for status in stays] == [NOT_SERVING]
        assert server.wait() == 0


async def test_a_second_signal_ends_a_busy_server_at_once(folder: Path) -> None:
    slow().lay_out(folder)
    with ServerProcess(folder, SERVING_GRACE="3600", SERVING_CALL_TIMEOUT="3600") as server:
        async with Wire(server.target) as wire:
            call = wire.call("ModelInfer", ask(FOR_EVER).SerializeToString(), timeout=3600)
            await until_in_flight(server, 1)
            server.signal(signal.SIGTERM)
            server.wait_for(lambda record: record.get("message") == "draining")
            assert server.running
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            assert await call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_a_call_that_never_ends_is_cancelled_after_the_grace_period(folder: Path) -> None:
    slow().lay_out(folder)
    with ServerProcess(folder, SERVING_GRACE="0.1", SERVING_CALL_TIMEOUT="3600") as server:
        async with Wire(server.target) as wire:
            call = wire.call("ModelInfer", ask(FOR_EVER).SerializeToString(), timeout=3600)
            await until_in_flight(server, 1)
            assert server.stop() == 0
            assert await call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_the_server_answers_other_calls_while_the_model_runs(folder: Path) -> None:
    slow().lay_out(folder)
    with ServerProcess(folder) as server:
        async with Wire(server.target) as wire:
            call = wire.call("ModelInfer", ask(FOR_EVER).SerializeToString(), timeout=3600)
            await until_in_flight(server, 1)
            assert await wire.status() == SERVING
            assert (await wire.metadata("slow")).name == "slow"
            assert not call.done()
            call.cancel()


async def test_a_forced_stop_never_crashes_the_process(folder: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", HURRIED_ENDS],
        env=environment(THIS_REPO, SERVING_FEATURE_STORE=default_store_url()),
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ended\n"
