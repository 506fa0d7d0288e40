"""GET /metrics, on the server's own event loop.

prometheus_client's own server starts a thread for each connection and waits for it without end: connections that send
nothing use up the container's processes. This one answers one small request per connection, by a deadline.
"""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from serving.online.listening import bare, refusal

MAX_CONNECTIONS = 32
MAX_HEADER_BYTES = 8 * 1024
TIMEOUT_S = 5.0
_PATHS = ("/metrics", "/")
_END = b"\r\n\r\n"


class MetricsPage:
    """Serve the metrics of one registry."""

    def __init__(self, registry: CollectorRegistry, *, timeout: float = TIMEOUT_S) -> None:
        self._registry = registry
        self._timeout = timeout
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}  # in the order in which they came

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port.

        :raises SettingsError: the address can't be used
        """
        try:
            self._server = await asyncio.start_server(self._connected, bare(host), port, limit=MAX_HEADER_BYTES)
        except OSError as error:
            raise refusal("METRICS_", host, port, error) from None
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and drop open connections."""
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            if ending := [task for task in self._open.values() if task is not None]:
                await asyncio.wait(ending, timeout=self._timeout)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            # The one that has been silent for longest: a scraper sends its request at once.
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = asyncio.current_task()
        try:
            async with asyncio.timeout(self._timeout):
                writer.write(await self._answer(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._open.pop(writer, None)

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            header = (await reader.readuntil(_END)).decode("latin-1")
        except asyncio.LimitOverrunError:
            return _response("431 Request Header Fields Too Large", "text/plain", b"")
        request, *lines = header.split("\r\n")
        words = request.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response("400 Bad Request", "text/plain", b"")
        if words[0] != "GET":
            return _response("405 Method Not Allowed", "text/plain", b"", "Allow: GET\r\n")
        if words[1].partition("?")[0] not in _PATHS:
            return _response("404 Not Found", "text/plain", b"")
        accept = ",".join(line.partition(":")[2] for line in lines if line.lower().startswith("accept:"))
        encode, kind = choose_encoder(accept)
        return _response("200 OK", kind, encode(self._registry))


def _response(status: str, kind: str, body: bytes, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}Connection: close"
    return head.encode("latin-1") + _END + body
