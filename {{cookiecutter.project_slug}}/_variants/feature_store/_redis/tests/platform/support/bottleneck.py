"""A Redis writer that is killed after half of its data has arrived."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

from tests.platform.support import filling

PATIENCE_S = 60.0
_HALF_BYTES = 40_000
"""About half of what it takes to fill a store with `filling.KEYS`."""


async def fill_and_be_killed(address: str, url: Callable[[str], str], number: signal.Signals, *options: str) -> None:
    """Fill the Redis at `host:port` from a separate process, and kill that after half of what KEYS take.

    `url` returns the store's URL for a `host:port`.
    """
    bottleneck = _Bottleneck(*address.split(":"))
    async with await asyncio.start_server(bottleneck.carry, "127.0.0.1") as door, asyncio.timeout(PATIENCE_S):
        through = f"127.0.0.1:{door.sockets[0].getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            *filling.command(url(through), *options), env=filling.ENVIRONMENT
        )
        await bottleneck.full.wait()
        process.send_signal(number)
        assert await process.wait() == -number
        await bottleneck.ended.wait()


class _Bottleneck:
    """Forward half of the data and its answers; hold the rest back."""

    def __init__(self, host: str, port: str) -> None:
        self._host, self._port = host, port
        self._left = _HALF_BYTES
        self.full, self.ended = asyncio.Event(), asyncio.Event()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, commands = await asyncio.open_connection(self._host, self._port)
        back = asyncio.create_task(self._copy(answers, writer))
        while self._left and (part := await reader.read(self._left)):
            self._left -= len(part)
            commands.write(part)
            await commands.drain()
        if not self._left:
            self.full.set()
        with suppress(ConnectionError):  # the data held back is lost with its writer
            while await reader.read(1 << 16):
                pass
        commands.write_eof()
        await back  # Redis has noticed
        if not self._left:
            self.ended.set()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while part := await source.read(1 << 16):
            target.write(part)
        target.close()
