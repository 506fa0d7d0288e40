"""The REST server: its start, its drain."""

from __future__ import annotations

import asyncio
import functools
import ssl
from email.utils import formatdate
from typing import Any

from uvicorn import Config
from uvicorn.server import ServerState

from serving.online.admission import Admission
from serving.online.credentials import Tokens, Watched, tls_context
from serving.online.inference import NoModel, Service
from serving.online.listening import bare, refusal
from serving.online.rest import pages
from serving.online.rest.app import RestService, make_app
from serving.online.rest.body import Bodies
from serving.online.rest.connection import Connection
from serving.online.rest.limits import Limits
from serving.online.rest.scope import Access, CallScope
from serving.online.settings import Settings
from serving.online.telemetry import Metrics

_NO_MODEL = Limits(64 * 1024, 0, 0)
_KEEP_ALIVE_S = 75
_HANDSHAKE_S = 10.0
_SHARE = 2  # of the budget for requests, half may be on its way


class RestServer:
    """Serve one service by REST until it is stopped."""

    def __init__(self, settings: Settings, service: Service, admission: Admission, metrics: Metrics) -> None:
        self._settings = settings
        limits = _NO_MODEL if isinstance(service, NoModel) else Limits.of(service.model.signature)
        bodies = Bodies(
            limits.max_bytes, service.budget.requests // _SHARE, lambda reason: metrics.refused.labels(reason).inc()
        )
        tokens = Tokens(settings.token_file) if settings.token_file else None
        self._rest = RestService(service, admission, bodies, limits, settings.call_timeout, tokens=tokens is not None)
        app = Access(
            make_app([*self._rest.routes(CallScope(metrics)), *pages.routes()]),
            tokens,
            settings.names(),
            lambda reason: metrics.denied.labels(reason).inc(),
        )
        self._config = Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._clock: asyncio.TimerHandle | None = None

    async def start(self) -> dict[str, int]:
        """Listen; return the port by its name in the log.

        :raises SettingsError: the address or a TLS file can't be used
        """
        settings = self._settings
        self._config.load()
        context = tls(settings)
        host = settings.rest_host or settings.host
        protocol = functools.partial(Connection, self._config, self._state, {})
        handshake: dict[str, Any] = {} if context is None else {"ssl": context, "ssl_handshake_timeout": _HANDSHAKE_S}
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(protocol, bare(host), settings.rest_port, **handshake)
        except OSError as error:
            raise refusal("REST_", host, settings.rest_port, error) from None
        self._tick()
        return {"rest_port": int(self._server.sockets[0].getsockname()[1])}

    def leave(self) -> None:
        """Say that the server is not ready, while calls are still answered."""
        self._rest.leaving = True

    async def finish(self) -> None:
        """Take no more connections, and return when the calls in flight have ended; may be cancelled."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks))

    async def close(self) -> None:
        """End every call and connection."""
        if self._server is not None:
            self._server.close()
        if self._clock is not None:
            self._clock.cancel()
        for connection in list(self._state.connections):
            if isinstance(connection, Connection):
                connection.abort()
        tasks = set(self._state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def _tick(self) -> None:
        """Keep the date of all answers."""
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._clock = asyncio.get_running_loop().call_later(1.0, self._tick)


def tls(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context to listen with, None without TLS; every new connection gets the current certificate.

    :raises SettingsError: a file can't be used
    """
    certificate, key, client_ca = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    if certificate is None or key is None:
        return None
    files = (certificate, key) if client_ca is None else (certificate, key, client_ca)
    watched = Watched(files, lambda: tls_context(certificate, key, client_ca))
    listening = watched.content

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        watched.changed()
        connection.context = watched.content

    listening.sni_callback = choose
    return listening
