"""Prometheus metrics, and logs as JSON lines with the request id."""

from __future__ import annotations

import contextvars
import logging
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.registry import Collector
from pythonjsonlogger.json import JsonFormatter

from serving.domain.features import Feature, Missing
from serving.domain.references import Reference


class RequestId:
    """The id of one call: the caller's, or one that is made when it is first logged or sent."""

    __slots__ = ("_text", "given")

    def __init__(self, given: str = "") -> None:
        self.given = given
        self._text = given

    def __str__(self) -> str:
        if not self._text:
            self._text = uuid.uuid4().hex
        return self._text


request_id: contextvars.ContextVar[RequestId | None] = contextvars.ContextVar("request_id", default=None)
"""The id of the current call; None outside of a call."""

_DAY_S = 86_400
_DAYS = (1 / 24, 0.25, 1.0, 2.0, 7.0, 30.0, 90.0, 365.0, 3650.0)
_CALLS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Metrics:
    """Hold the metrics of one server; the names of the first three are those of go-grpc-prometheus."""

    registry: CollectorRegistry
    started: Counter
    handled: Counter
    seconds: Histogram
    in_flight: Gauge
    queued: Gauge
    held_bytes: Gauge
    limit: Gauge
    refused: Counter
    denied: Counter
    store_seconds: Histogram
    store_failures: Counter
    model_seconds: Histogram
    batch_calls: Histogram
    defaults: Counter
    last_known: Counter
    feature_age: Histogram
    stale: Counter
    log_rows: Counter
    log_lost: Counter
    model_info: Gauge
    ready: Gauge

    @classmethod
    def create(cls) -> Metrics:
        """Create the metrics in a separate registry."""
        registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=SECONDS)

        return cls(
            registry,
            started=counter("grpc_server_started", "Calls started.", "grpc_method"),
            handled=counter("grpc_server_handled", "Finished calls, by status code.", "grpc_method", "grpc_code"),
            seconds=histogram("grpc_server_handling_seconds", "Duration of a call in seconds.", "grpc_method"),
            in_flight=gauge("serving_in_flight", "ModelInfer calls in progress."),
            queued=gauge("serving_queued", "ModelInfer calls that wait in the queue."),
            held_bytes=gauge("serving_request_bytes", "Bytes of all requests that are held."),
            limit=gauge("serving_limit", "The most that admission control lets in, of calls or bytes.", "what"),
            refused=counter("serving_refused", "ModelInfer calls refused by admission control.", "reason"),
            denied=counter("serving_denied", "Calls of any service refused for want of a token or name.", "reason"),
            store_failures=counter("serving_feature_store_failures", "Reads that gave no features.", "reason"),
            store_seconds=histogram("serving_feature_store_seconds", "Duration of a feature store read in seconds."),
            model_seconds=histogram("serving_model_seconds", "Duration of a model call in seconds."),
            batch_calls=Histogram(
                "serving_batch_calls",
                "Calls that shared a model call.",
                registry=registry,
                buckets=_CALLS,
            ),
            defaults=counter("serving_feature_defaults", "Rows answered with a feature's default.", "feature"),
            last_known=counter("serving_feature_last_known", "Rows answered with the last known value.", "feature"),
            feature_age=Histogram(
                "serving_feature_age_days",
                "Age in days of the oldest value of a call.",
                ("feature",),
                registry=registry,
                buckets=_DAYS,
            ),
            stale=counter("serving_feature_stale", "Rows with a value older than its declared bound.", "feature"),
            log_rows=counter("serving_prediction_log_rows", "Rows written to the prediction log."),
            log_lost=counter("serving_prediction_log_lost", "Rows that the prediction log lost.", "reason"),
            model_info=gauge("serving_model_info", "1 for the model that is served.", "model", "version", "digest"),
            ready=gauge("serving_ready", "1 while the server takes calls, else 0."),
        )

    def store_read(self, seconds: float) -> None:
        """Observe the duration of a feature store read."""
        self.store_seconds.observe(seconds)

    def store_failed(self, reason: str) -> None:
        """Count a read that gave no features."""
        self.store_failures.labels(reason).inc()

    def stood_in(self, feature: Feature, what: Missing, rows: int) -> None:
        """Count the rows that used a fallback for a feature."""
        (self.last_known if what is Missing.LAST_KNOWN else self.defaults).labels(feature.name).inc(rows)

    def served(self, feature: Feature, ages: npt.NDArray[np.float64]) -> None:
        """Observe the ages, in seconds, of a call's values; count those over the declared bound."""
        days = ages / _DAY_S
        self.feature_age.labels(feature.name).observe(float(days.max()))
        if feature.max_age_days is not None:
            self.stale.labels(feature.name).inc(int(np.count_nonzero(days > feature.max_age_days)))

    def logged(self, rows: int) -> None:
        """Count rows that the prediction log has."""
        self.log_rows.inc(rows)

    def not_logged(self, reason: str, rows: int) -> None:
        """Count rows that the prediction log lost."""
        self.log_lost.labels(reason).inc(rows)

    def announce(self, reference: Reference, supplied: Sequence[Feature], values: Collector) -> None:
        """Export the served model and its counts of values; begin the counts of the store's features at 0."""
        self.model_info.labels(reference.model, reference.version, reference.digest).set(1)
        self.registry.register(values)
        for feature in supplied:
            self.defaults.labels(feature.name)
            self.last_known.labels(feature.name)
            if feature.max_age_days is not None:
                self.stale.labels(feature.name)


class _RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        current = request_id.get()
        record.request_id = "" if current is None else str(current)
        return True


def configure_logging(level: str) -> None:
    """Write every log record as one line of JSON to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    )
    handler.addFilter(_RequestIdFilter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
