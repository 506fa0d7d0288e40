"""A Redis in a container, for benchmarks, that can be made to fail."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from benchmarks.store_url import store_url
from serving.domain.errors import OperatorError
from serving.offline import user_model
from serving.offline.materialize import materialize, open_writer

IMAGE = os.environ.get("REDIS_IMAGE", "redis:8.10.2-trixie")
FAULTS = ("frozen", "killed", "empty", "slow")
SLOW_S = 0.2
_TIMEOUT_S = 60.0


class Store:
    """A Redis in a container, reached through a port that can be made slow."""

    def __init__(self, container: str, port: int, url: str) -> None:
        self._container, self._port, self._url = container, port, url
        self._delay_s = 0.0

    async def fail(self, fault: str) -> None:
        """Cause one of FAULTS."""
        match fault:
            case "frozen":
                await docker("pause", self._container)
            case "killed":  # saved before, so that it restarts with its data
                await docker("exec", self._container, "redis-cli", "save")
                await docker("kill", self._container)
            case "empty":
                await docker("exec", self._container, "rm", "dump.rdb")
                await docker("restart", "--time", "0", self._container)
            case "slow":
                self._delay_s = SLOW_S

    async def recover(self, fault: str) -> None:
        """End a fault; return when the store answers and is full."""
        match fault:
            case "frozen":
                await docker("unpause", self._container)
            case "killed":
                await docker("start", self._container)
            case "empty":
                await asyncio.to_thread(self.fill)
            case "slow":
                self._delay_s = 0.0
        await asyncio.to_thread(self.ping)

    def fill(self) -> None:
        """Materialize everything."""
        past = user_model.history()
        materialize(past, user_model.features(), open_writer(self._url), until=int(past.times.max()))

    def ping(self) -> None:
        """Wait until Redis answers."""
        with redis.Redis("127.0.0.1", self._port, retry=Retry(ConstantBackoff(0.01), int(_TIMEOUT_S / 0.01))) as client:
            client.ping()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to Redis and back."""
        try:
            from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(self._copy(reader, to_redis, slowly=False), self._copy(from_redis, writer, slowly=True))

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, slowly: bool) -> None:
        try:
            while chunk := await source.read(1 << 16):
                if slowly:
                    await asyncio.sleep(self._delay_s)
                target.write(chunk)
                await target.drain()
        except OSError:
            pass  # the other side is closed below
        finally:
            target.close()


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Store, str]]:
    """Run a filled Redis; yield it and the URL through which its faults are visible."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["redis-server", "--protected-mode", "no", "--save", ""]
    container = await docker("run", "--detach", "--publish", f"127.0.0.1:{port}:6379", IMAGE, *command)
    try:
        with tempfile.TemporaryDirectory() as name:
            store = Store(container, port, store_url(Path(name), port))
            await asyncio.to_thread(store.ping)
            await asyncio.to_thread(store.fill)
            door = await asyncio.start_server(store.pass_on, "127.0.0.1")
            yield store, store_url(Path(name), door.sockets[0].getsockname()[1])
            door.close()
    finally:
        await docker("rm", "--force", "--volumes", container)


async def docker(*words: str) -> str:
    """Run a docker command that must succeed; return what it printed."""
    command = ["docker", *words]
    try:
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except FileNotFoundError:
        raise OperatorError("`docker` is not installed; this benchmark needs a container engine.") from None
    if done.returncode:
        raise OperatorError(f"{' '.join(command[:2])}: {done.stderr.strip()}")
    return str(done.stdout).strip()
