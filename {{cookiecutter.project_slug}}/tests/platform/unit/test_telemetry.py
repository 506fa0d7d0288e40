from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from serving.domain.features import Feature, Missing
from serving.domain.references import Reference
from serving.online.telemetry import Metrics, RequestId, configure_logging, request_id

HOSTILE = [
    "a\r\nINFO forged",
    "\x1b[31mred\x1b[0m",
    "nul\0byte",
    "\x85\u2028\u2029",
    '"}\n{"level": "INFO"',
    "\ud800",
    "é" * 9,
]


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, _logging_restored: None) -> io.StringIO:
    """Return the service's log output on standard error."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging("INFO")
    return stream


def lines(log: io.StringIO) -> list[str]:
    return log.getvalue().split("\n")[:-1]


@pytest.mark.parametrize("text", HOSTILE)
def test_every_log_record_is_one_line_of_ascii_json(log: io.StringIO, text: str) -> None:
    logging.getLogger("test").info("%s", text, extra={"extra": text})
    (line,) = lines(log)
    assert line.isascii()
    assert line.isprintable()
    record = json.loads(line)
    assert (record["message"], record["extra"], record["level"]) == (text, text, "INFO")


@given(st.text())
def test_any_text_at_all_is_one_line(text: str) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        configure_logging("INFO")
    logging.getLogger("test").info("%s", text)
    root.handlers[:], root.level = before
    (line,) = lines(stream)
    assert json.loads(line)["message"] == text


def test_a_traceback_stays_on_its_line(log: io.StringIO) -> None:
    try:
        raise KeyError("a\nb")
    except KeyError:
        logging.getLogger("test").exception("failed")
    (line,) = lines(log)
    assert "KeyError" in json.loads(line)["exc_info"]


def test_a_record_carries_time_level_logger_and_request(log: io.StringIO) -> None:
    token = request_id.set(RequestId("my-request"))
    logging.getLogger("some.logger").warning("text")
    request_id.reset(token)
    logging.getLogger("some.logger").error("outside of a request")
    inside, outside = map(json.loads, lines(log))
    assert (inside["level"], inside["logger"], inside["request_id"]) == ("WARNING", "some.logger", "my-request")
    assert inside["time"]
    assert outside["request_id"] == ""


def test_records_below_the_level_are_not_logged(log: io.StringIO) -> None:
    configure_logging("WARNING")
    logging.getLogger("test").info("not this")
    assert lines(log) == []


def test_two_servers_in_one_process_have_separate_metrics() -> None:
    one, two = Metrics.create(), Metrics.create()
    one.refused.labels("queue_full").inc()
    assert two.registry.get_sample_value("serving_refused_total", {"reason": "queue_full"}) is None


# Dashboards and alerts read these names, and people the texts.
PAGE = """\
grpc_server_started counter: Calls started.
grpc_server_handled counter: Finished calls, by status code.
grpc_server_handling_seconds histogram: Duration of a call in seconds.
serving_in_flight gauge: ModelInfer calls in progress.
serving_queued gauge: ModelInfer calls that wait in the queue.
serving_request_bytes gauge: Bytes of all requests that are held.
serving_limit gauge: The most that admission control lets in, of calls or bytes.
serving_refused counter: ModelInfer calls refused by admission control.
serving_denied counter: Calls of any service refused for want of a token or name.
serving_feature_store_failures counter: Reads that gave no features.
serving_feature_store_seconds histogram: Duration of a feature store read in seconds.
serving_model_seconds histogram: Duration of a model call in seconds.
serving_batch_calls histogram: Calls that shared a model call.
serving_feature_defaults counter: Rows answered with a feature's default.
serving_feature_last_known counter: Rows answered with the last known value.
serving_feature_age_days histogram: Age in days of the oldest value of a call.
serving_feature_stale counter: Rows with a value older than its declared bound.
serving_prediction_log_rows counter: Rows written to the prediction log.
serving_prediction_log_lost counter: Rows that the prediction log lost.
serving_model_info gauge: 1 for the model that is served.
serving_ready gauge: 1 while the server takes calls, else 0.
"""


def test_the_page_has_these_metrics() -> None:
    found = Metrics.create().registry.collect()
    assert "".join(f"{metric.name} {metric.type}: {metric.documentation}\n" for metric in found) == PAGE


def test_metrics_are_counted_by_these_labels() -> None:
    metrics = Metrics.create()
    metrics.started.labels("ModelInfer").inc()
    metrics.handled.labels("ModelInfer", "OK").inc()
    metrics.seconds.labels("ModelInfer").observe(1)
    metrics.refused.labels("queue_full").inc()
    metrics.announce(Reference("local", "tiny", "7", "sha256=00"), (), CollectorRegistry())
    value = metrics.registry.get_sample_value
    assert value("grpc_server_started_total", {"grpc_method": "ModelInfer"}) == 1
    assert value("grpc_server_handled_total", {"grpc_method": "ModelInfer", "grpc_code": "OK"}) == 1
    assert value("grpc_server_handling_seconds_count", {"grpc_method": "ModelInfer"}) == 1
    assert value("serving_refused_total", {"reason": "queue_full"}) == 1
    assert value("serving_model_info", {"model": "tiny", "version": "7", "digest": "sha256=00"}) == 1


def test_counts_of_the_stores_features_begin_at_0_so_that_an_alert_sees_the_first() -> None:
    metrics = Metrics.create()
    features = (Feature("age", max_age_days=2.0), Feature("sex"))
    metrics.announce(Reference("local", "tiny", "7", "sha256=00"), features, CollectorRegistry())
    value = metrics.registry.get_sample_value
    for feature in ("age", "sex"):
        assert value("serving_feature_defaults_total", {"feature": feature}) == 0
        assert value("serving_feature_last_known_total", {"feature": feature}) == 0
    assert value("serving_feature_stale_total", {"feature": "age"}) == 0
    assert value("serving_feature_stale_total", {"feature": "sex"}) is None


def test_durations_are_told_apart_from_half_a_millisecond_to_ten_seconds() -> None:
    metrics = Metrics.create()
    metrics.store_read(0.0007)
    (found,) = [metric for metric in metrics.registry.collect() if metric.name == "serving_feature_store_seconds"]
    below = {sample.labels["le"]: sample.value for sample in found.samples if "le" in sample.labels}
    assert (below["0.0005"], below["0.001"], below["10.0"]) == (0, 1, 1)
    assert metrics.registry.get_sample_value("serving_feature_store_seconds_sum") == 0.0007


def test_rows_with_a_substitute_are_counted_by_feature_and_kind() -> None:
    metrics = Metrics.create()
    metrics.stood_in(Feature("age"), Missing.DEFAULT, 3)
    metrics.stood_in(Feature("age"), Missing.LAST_KNOWN, 4)
    value = metrics.registry.get_sample_value
    assert value("serving_feature_defaults_total", {"feature": "age"}) == 3
    assert value("serving_feature_last_known_total", {"feature": "age"}) == 4


def test_the_oldest_value_of_a_call_is_observed_and_those_beyond_the_bound_are_counted() -> None:
    metrics = Metrics.create()
    day = 86_400.0
    metrics.served(Feature("age", max_age_days=2.0), np.array([3.0, 1.0, 2.0, 5.0]) * day)
    value = metrics.registry.get_sample_value
    assert value("serving_feature_age_days_sum", {"feature": "age"}) == 5
    assert value("serving_feature_age_days_bucket", {"feature": "age", "le": "2.0"}) == 0
    assert value("serving_feature_age_days_bucket", {"feature": "age", "le": "7.0"}) == 1
    assert value("serving_feature_stale_total", {"feature": "age"}) == 2


def test_a_feature_without_a_bound_is_never_stale() -> None:
    metrics = Metrics.create()
    metrics.served(Feature("age"), np.array([1e9]))
    assert metrics.registry.get_sample_value("serving_feature_stale_total", {"feature": "age"}) is None


def test_a_second_configuration_replaces_the_first(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", log)
    configure_logging("INFO")
    logging.getLogger("test").info("once")
    assert len(lines(log)) == 1
