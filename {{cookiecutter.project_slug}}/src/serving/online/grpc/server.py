"""The gRPC server: its options, its start, its drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from contextlib import AsyncExitStack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.domain.errors import SettingsError, UnresolvedReference, quoted
from serving.online.admission import Admission, Limits
from serving.online.bootstrap import build
from serving.online.credentials import Tokens
from serving.online.entrypoints import open_entrypoints
from serving.online.grpc.access import Access
from serving.online.grpc.codec import max_request_bytes
from serving.online.grpc.credentials import server_credentials
from serving.online.grpc.health import Health
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.grpc.scope import CallScope
from serving.online.grpc.servicer import SERVICE, InferenceServicer
from serving.online.grpc.tracing import TracedAdmission, Wrap, traced
from serving.online.grpc.transport import make_server
from serving.online.grpc.watchdog import watch
from serving.online.inference import NoModel, Service
from serving.online.listening import address, refusal
from serving.online.metrics_page import MetricsPage
from serving.online.settings import Settings
from serving.online.telemetry import Metrics
from serving.online.tracing import Tracing, open_tracing

log = logging.getLogger(__name__)

_SMALL_MESSAGE_BYTES = 64 * 1024
_PAUSE_S = 1.0
_LAST_WORDS_S = 0.3
_NEVER_S = 3600.0  # longer than our grace period, so gRPC never cancels first


def options(max_message_bytes: int, call_timeout: float) -> list[tuple[str, int]]:
    """Return the server's channel arguments; each prevents a failure that we measured."""
    return [
        # By default a second server can bind the same port, and the kernel splits the calls between both.
        ("grpc.so_reuseport", 0),
        # Derived from the signature: 4 MiB of empty inputs are legal and take 176 MiB to parse.
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # 20,000 half-open requests on one connection took 447 MiB; with this, 42.
        ("grpc.max_concurrent_streams", 256),
        # Clients find new replicas only when they reconnect: the age forces that, the grace lets calls finish.
        # A minute, since an autoscaler adds replicas for the load of now.
        ("grpc.max_connection_age_ms", 60_000),
        ("grpc.max_connection_age_grace_ms", int(call_timeout * 1000) + 5_000),
        # Allow client keepalive pings every 10 s; the default answers them with too_many_pings.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


class GrpcServer:
    """Serve one service until it is stopped."""

    def __init__(self, settings: Settings, service: Service, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._ready = not isinstance(service, NoModel)
        names = ["", SERVICE]
        max_bytes = _SMALL_MESSAGE_BYTES
        if self._ready:
            names.append(service.model.reference.model)
            max_bytes = max_request_bytes(service.model.signature)
        self._health = Health(names)
        limits = Limits(settings.max_running, settings.max_queued, service.budget.requests, service.budget.concurrency)
        wrap: Wrap = CallScope(metrics).wrap
        admission = Admission(limits, lambda reason: metrics.refused.labels(reason).inc())
        if tracing is not None:
            admission = TracedAdmission(limits, lambda reason: metrics.refused.labels(reason).inc(), tracing)
            wrap = traced(wrap, tracing)
        metrics.in_flight.set_function(lambda: admission.running)
        metrics.queued.set_function(lambda: admission.queued)
        metrics.held_bytes.set_function(lambda: admission.held_bytes)
        metrics.limit.labels("in_flight").set(limits.max_running)
        metrics.limit.labels("queued").set(limits.max_queued)
        metrics.limit.labels("request_bytes").set(limits.max_bytes)
        interceptors = []
        if settings.token_file or settings.names():
            tokens = Tokens(settings.token_file) if settings.token_file else None
            interceptors.append(Access(tokens, settings.names(), lambda reason: metrics.denied.labels(reason).inc()))
        encrypted = settings.tls_certificate is not None
        self._server = make_server(interceptors, options(max_bytes, settings.call_timeout), encrypted=encrypted)
        servicer = InferenceServicer(service, admission, settings.call_timeout)
        self._server.add_generic_rpc_handlers((servicer.handler(wrap),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._beside = open_entrypoints(settings, service, admission, metrics)
        # Health alone, for a check from the same container: it needs no key in the image.
        self._inside = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._inside)
        if settings.reflection:
            from grpc_reflection.v1alpha import reflection  # 3 MB that production does without

            reflection.enable_server_reflection([SERVICE], self._server, pool=pb.DESCRIPTOR.pool)

    async def start(self) -> dict[str, int]:
        """Listen, say SERVING if there is a model, and return the ports by their names.

        :raises SettingsError: an address or a TLS file can't be used
        """
        settings = self._settings
        credentials = server_credentials(settings)
        try:
            where = address(settings.host, settings.grpc_port)
            if credentials is None:
                port = self._server.add_insecure_port(where)
            else:
                port = self._server.add_secure_port(where, credentials)
        except RuntimeError:
            raise refusal("GRPC_", settings.host, settings.grpc_port, None) from None
        try:
            if settings.health_socket:
                self._inside.add_insecure_port(settings.health_socket)
        except RuntimeError:
            raise SettingsError(
                f"SERVING_HEALTH_SOCKET={quoted(settings.health_socket)}: can't listen there; "
                "is another server in this container? Choose another path, in a folder that can be written."
            ) from None
        ports = {"grpc_port": port}
        for entrypoint in self._beside:
            ports |= await entrypoint.start()
        await self._server.start()
        await self._inside.start()
        if self._ready:
            self._health.set(health_pb2.HealthCheckResponse.SERVING)
            self._metrics.ready.set(1)
        return ports

    async def drain(self, hurry: asyncio.Event) -> None:
        """Report NOT_SERVING, wait for load balancers, finish calls in flight; `hurry` skips the waits."""
        self._health.set(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._metrics.ready.set(0)
        for entrypoint in self._beside:
            entrypoint.leave()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), self._settings.drain)
        self._health.end_watches()
        if not hurry.is_set():
            grace = self._settings.grace
            stopping = asyncio.ensure_future(self._finish(grace + _NEVER_S))
            hurried = asyncio.ensure_future(hurry.wait())
            await asyncio.wait({stopping, hurried}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            # One at a time: a second concurrent stop can use a freed server, and the process crashes.
            stopping.cancel()
            await asyncio.wait({stopping})
        await self._server.stop(0)
        await self._close()

    async def end(self) -> None:
        """Report NOT_SERVING, let watchers hear it, and end all calls."""
        self._health.set(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._metrics.ready.set(0)
        self._health.end_watches()
        for entrypoint in self._beside:
            entrypoint.leave()
        await self._server.stop(_LAST_WORDS_S)
        await self._close()

    async def _finish(self, grace: float) -> None:
        await asyncio.gather(self._server.stop(grace), *(entrypoint.finish() for entrypoint in self._beside))

    async def _close(self) -> None:
        for entrypoint in self._beside:
            await entrypoint.close()
        await self._inside.stop(0)


async def serve(settings: Settings) -> None:
    """Build the service, serve it until SIGTERM or SIGINT, drain, and close everything in reverse."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the process without a drain
            loop.add_signal_handler(number, lambda: hurry.set() if stop.is_set() else stop.set())
    async with AsyncExitStack() as resources:
        metrics = Metrics.create()
        page = MetricsPage(metrics.registry)
        resources.push_async_callback(page.close)
        metrics_port = await page.start(settings.metrics_host, settings.metrics_port)
        tracing = open_tracing(os.environ, _service_name(settings))
        if tracing is not None:
            resources.push_async_callback(asyncio.to_thread, tracing.close)
        building = asyncio.ensure_future(build(settings, metrics, resources, tracing))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({building, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not building.done():
            building.cancel()
            await asyncio.wait({building}, timeout=_PAUSE_S)  # a model call that can't be ended ends with the process
            log.info("stopped before there was a model")
            return
        service = building.result()
        server = GrpcServer(settings, service, metrics, tracing)
        ports = await server.start()
        log.info("listening", extra={**ports, "metrics_port": metrics_port})
        stuck = asyncio.ensure_future(watch(service.longest, settings.call_timeout))
        await asyncio.wait({stuck, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stuck.done():
            await server.end()
            stuck.result()
        log.info("draining")
        await server.drain(hurry)
        stuck.cancel()
    log.info("stopped")


def _service_name(settings: Settings) -> str:
    """Return the model's name; where no version is chosen, that of the program."""
    try:
        return settings.reference().model
    except UnresolvedReference:
        return "serving"
