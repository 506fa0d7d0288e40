from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
