"""One HTTP/1.1 connection, with bounds: uvicorn's waits for ever for a request, and for a caller that doesn't read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.online.rest.status import PROBLEM_JSON, problem

MAX_CONNECTIONS = 1024
MAX_HEAD_BYTES = 16 * 1024
"""The request line and all fields; chunks may add eight bytes for each byte of a body."""
HEAD_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 30.0

_CHUNKS = 8
_FIELD_BYTES = 4  # colon, space, end of line


@dataclass
class Caller:
    """Know the certificate of a connection's caller, and the task that answers it."""

    names: frozenset[str] = frozenset()
    task: asyncio.Task[Any] | None = None


class Connection(HttpToolsProtocol):
    """Serve a connection until it is idle, silent or unread for too long."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.since = self.loop.time()
        self._caller = Caller()
        self.app_state = {"caller": self._caller}
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._framing = self._body = self._fields = self._arrived = 0
        self._refused = False
        self._received = True

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection; where there are too many, end the oldest idle one."""
        super().connection_made(transport)
        self._caller.names = names_of(transport.get_extra_info("peercert"))
        self._wait_for_caller()
        if len(self.connections) > MAX_CONNECTIONS:
            others = (other for other in self.connections if isinstance(other, Connection) and other is not self)
            min((other for other in others if other.idle), key=lambda other: other.since, default=self).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the call: nobody waits for its answer."""
        super().connection_lost(exc)
        self._stop_waiting()
        if self._unread is not None:
            self._unread.cancel()
        if self._caller.task is not None and not self.idle:
            self._caller.task.cancel()

    def abort(self) -> None:
        """End the connection at once."""
        self.connections.discard(self)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse what came; what isn't body has a bound."""
        if self._refused:
            return
        self._arrived = len(data)
        self._framing += self._arrived
        if self.idle and self._received:
            self._wait_for_caller()
        super().data_received(data)
        if self._framing > MAX_HEAD_BYTES + _CHUNKS * self._body:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Count anew for each request."""
        super().on_message_begin()
        # What came with it is its own, but for the body of the request before, or a request in the same piece.
        self._framing, self._arrived = self._arrived, 0
        self._body = self._fields = 0
        self._received = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field, or drop those beyond the bound."""
        self._fields += len(name) + len(value) + _FIELD_BYTES
        if self._fields + len(self.url) <= MAX_HEAD_BYTES:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the call."""
        self._stop_waiting()
        if self._fields + len(self.url) > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand on a part of the body."""
        self._framing = max(0, self._framing - len(body))
        self._arrived = max(0, self._arrived - len(body))
        self._body += len(body)
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that all of the request is here."""
        self._received = True
        if not self._refused:
            self._stop_waiting()
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request; one that was refused early may take a while to arrive in full."""
        super().on_response_complete()
        if not self._received:
            self._wait_for_caller()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST)

    def pause_writing(self) -> None:
        """Wait for the caller to read, but not for ever."""
        super().pause_writing()
        self._unread = self.loop.call_later(WRITE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, even if its last answer was not read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _wait_for_caller(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer before there is a call, and close."""
        if self._refused:
            return
        self._refused = True
        text = {
            HTTPStatus.BAD_REQUEST: "this is not an HTTP/1.1 request.",
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: f"the header fields have more than {MAX_HEAD_BYTES} bytes.",
        }[status]
        body = problem(status, text)
        head = f"content-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        if self.idle:
            self.transport.write(STATUS_LINE[status] + head.encode("ascii") + body)
        self.transport.close()


def names_of(certificate: dict[str, Any] | None) -> frozenset[str]:
    """Return a certificate's names: the alternative ones, or else the common one, as for server names."""
    found = certificate or {}
    alternative = [name for _, name in found.get("subjectAltName", ())]
    common = [value for entry in found.get("subject", ()) for key, value in entry if key == "commonName"]
    return frozenset(alternative or common)
