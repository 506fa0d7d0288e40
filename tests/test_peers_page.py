"""The comparison with other model servers: its page, its plots, and what it does about wrong answers and absences."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.peers import calls, page, results
from benchmarks.peers.calls import Load, PeerError, checked, figures
from benchmarks.peers.catalog import Peer, Ports, Program, installed, last_words, peers, reason
from benchmarks.peers.forms import FORMS, GRPC, Answer, Endpoint
from benchmarks.peers.medians import Measured, rows_of
from benchmarks.peers.models import LINEAR, MODELS, NAME
from benchmarks.peers.results import Figures, Results, Row, Server
from benchmarks.protocol import HEADER_LENGTH, pb
from tests.support import ROOT

PEERS = {"bentoml", "fastapi", "kserve", "litserve", "mlflow", "mlserver", "pytriton", "ray"}
ROWS = np.array([[5.5, 3.0, 4.0, 1.25]], np.float32)
EXPECTED = np.array([0.125, 0.625, 0.25])
LISTS = Endpoint("JSON", "lists", "/predict", "rows", "answers")
PRINTED = """
requests: 120 total, 121 started, 120 done, 118 succeeded, 2 failed, 2 errored, 0 timeout
status codes: 118 2xx, 0 3xx, 0 4xx, 2 5xx
traffic: 9.7KB (9999) total, 2.1KB (2150) headers (space savings 0.00%), 4.7KB (4800) data
"""


@dataclass(frozen=True)
class Fake:
    """A server that is or isn't installed."""

    name: str
    fault: str = ""
    title: str = "A server 1.0"
    note: str = "its defaults"
    endpoints: tuple[Endpoint, ...] = (LISTS,)
    models: tuple[str, ...] = (LINEAR,)

    def install(self) -> None:
        if self.fault:
            raise PeerError(self.fault)

    def program(self, model: str, ports: Ports) -> Program:
        raise NotImplementedError


@pytest.fixture
def answering() -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    """A server that gives these answers, the last one forever: its port, and the answers."""
    answers: list[tuple[int, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.server_address[1], answers
        server.shutdown()
        thread.join()


def found(*rows: Row, servers: tuple[Server, ...] = ()) -> Results:
    return Results("2026-01-02", "1 core", 3, 2.0, 0.25, servers, rows)


def cell(rate: float, ratio: float = 1.0, failed: int = 0) -> Figures:
    return Figures(0.5, 2.0, rate, 300.0, ratio, failed)


def test_page_and_plots_show_the_committed_results() -> None:
    committed = results.read(results.FILE.read_text(encoding="utf-8"))
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.tables(committed) in text
    for model in MODELS:
        rows = [row for row in committed.rows if 8 in row.figures.get(model, {})]
        assert rows
        picture = ElementTree.fromstring((ROOT / "docs" / f"peers-{model}.svg").read_text(encoding="utf-8"))  # noqa: S314
        texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
        assert {f"{row.figures[model][8].rate:,.0f}" for row in rows} <= texts
    named = " ".join(server.title for server in committed.servers)
    assert all(peer.title.rpartition(" ")[0] in named for peer in peers())


def test_a_result_is_the_same_after_it_was_written_and_read() -> None:
    servers = (Server("A 1", "one worker", 1.25, 100.0), Server("B 2", "", faults=["not installed: no wheel"]))
    written = found(Row("A 1", "JSON", "rest", False, {LINEAR: {1: cell(100.0)}}), servers=servers).to_json()
    assert results.read(written).to_json() == written
    assert "NaN" not in written
    assert page.tables(results.read(written)).count("\n### ") == 2


def test_the_table_has_the_fastest_first_and_tells_ours_and_failed_calls() -> None:
    slow = Row("A 1", "JSON", "rest", False, {LINEAR: {1: cell(10, failed=2), 64: cell(99.0, 3.04, 5)}})
    ours = Row("repo", "gRPC", GRPC, True, {LINEAR: {1: cell(20), 64: cell(301.0)}})
    lines = page.table(found(slow, ours), LINEAR).splitlines()
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| **repo**", "| A 1"]
    assert lines[4] == "| **repo** | gRPC | 0.5 | 2 |  |  | 301 | 2 | 300 | 1 |  |"
    assert lines[5] == "| A 1 | REST, JSON | 0.5 | 2 |  |  | 99 | 2 | 300 | 3.04 | 7 |"


def test_ratios_are_those_of_the_same_round() -> None:
    base, other = Fake("base", title="repo"), Fake("other")
    measured = Measured()
    for name, rates in (("base", {0: 100.0, 1: 300.0, 2: 90.0}), ("other", {0: 50.0, 1: 100.0})):
        measured.loads[name, "JSON", LINEAR, 8] = {n: (Load(1, 2, rate, 9, 1), 50.0) for n, rate in rates.items()}
    ours, theirs = rows_of(measured, [base, other], base, ["base"])
    assert (ours.ours, theirs.ours) == (True, False)
    assert theirs.figures[LINEAR][8] == Figures(1, 2, 75.0, 50.0, 2.5, 2)
    assert ours.figures[LINEAR][8].ratio == 1


def test_a_peer_that_cant_be_installed_is_named_with_the_reason() -> None:
    base, broken, lost = Fake("base"), Fake("broken", "no wheel | of A for this machine", "Broken 2"), Fake("lost")
    present, absent = installed([base, broken, lost], base)
    assert present == [base, lost]
    table = page.servers(found(servers=tuple(absent)))
    assert "| Broken 2 |  |  | its defaults | not installed: no wheel / of A for this machine |" in table
    with pytest.raises(PeerError, match="no wheel"):
        installed([broken], broken)


def test_a_peer_without_its_lock_says_so() -> None:
    with pytest.raises(PeerError, match=r"nobody/requirements/server\.txt is missing"):
        Peer("nobody", "Nobody", "", ()).install()


def test_of_a_tool_that_failed_the_line_with_the_error_is_shown() -> None:
    assert (
        reason("Using Python 3.11\n  \u00d7 error: No wheel for x\n  cause: y\nerror: x can't be installed")
        == "No wheel for x"
    )
    assert reason("") == "no reason was given"
    assert last_words("Traceback\n  File\nAttributeError: no attribute\n\n;\n") == "AttributeError: no attribute"
    assert last_words("starting\nstopped\n") == "stopped"


def test_every_peer_is_a_folder_with_program_and_known_forms() -> None:
    every = peers()
    assert {peer.name for peer in every} == PEERS
    for peer in every:
        assert (peer.lock.parent.parent / "serve.py").exists()
        assert re.search(r" \d+\.\d+", peer.title), peer.title
        assert peer.endpoints
        assert {endpoint.form for endpoint in peer.endpoints} <= set(FORMS)


def test_wrong_unreadable_and_missing_answers_are_detected(answering: tuple[int, list[tuple[int, bytes]]]) -> None:
    port, answers = answering
    good = b'{"answers": [[0.125, 0.625, 0.2500001]]}'
    answers[:] = [(200, good)]
    assert checked(LISTS, port, ROWS, EXPECTED).body == good
    for status, body, text in (
        (200, b'{"answers": [[0.125, 0.625, 0.26]]}', "must be"),
        (200, b'{"answers": [[0.125, 0.625]]}', "must be"),
        (200, b'{"predictions": []}', "can't be read: KeyError"),
        (200, b"null", "can't be read: TypeError"),
        (503, b"busy", "answered with 503: busy"),
    ):
        answers[:] = [(status, body)]
        with pytest.raises(PeerError, match=text):
            checked(LISTS, port, ROWS, EXPECTED)
    with pytest.raises(PeerError, match=r"UNAVAILABLE|UNKNOWN|INTERNAL"):
        checked(Endpoint("gRPC", GRPC), port, ROWS, EXPECTED)


def test_each_form_sends_the_rows_and_reads_the_numbers() -> None:
    wanted = Endpoint("gRPC", GRPC, output="predict_proba").request(ROWS)
    message = pb.ModelInferRequest.FromString(wanted.body)
    assert (message.model_name, message.outputs[0].name) == (NAME, "predict_proba")
    assert message.raw_input_contents[0] == ROWS.tobytes()
    for typed in (False, True):
        reply = pb.ModelInferResponse()
        output = reply.outputs.add(name="p", datatype="FP64", shape=[1, 3])
        if typed:
            output.contents.fp64_contents.extend(EXPECTED)
        else:
            reply.raw_output_contents.append(EXPECTED.tobytes())
        assert Endpoint("gRPC", GRPC).answer(Answer(reply.SerializeToString())).tolist() == EXPECTED.tolist()
    json_sent = replace(LISTS, form="protocol-json").request(ROWS).body
    assert b'"shape": [1, 4], "data": [5.5, 3.0, 4.0, 1.25]' in json_sent
    binary = replace(LISTS, form="protocol-binary").request(ROWS)
    assert binary.body[int(binary.headers[HEADER_LENGTH]) :] == ROWS.tobytes()
    assert replace(LISTS, form="octets").request(ROWS).body == ROWS.tobytes()
    raw = EXPECTED.astype("<f4").tobytes()
    for form, answer in (
        ("protocol-json", Answer(b'{"outputs": [{"data": [0.125, 0.625, 0.25]}]}')),
        ("protocol-binary", Answer(b"{}" + raw, {HEADER_LENGTH.lower(): "2"})),
        ("octets", Answer(raw)),
    ):
        assert replace(LISTS, form=form).answer(answer).tolist() == EXPECTED.tolist()


def test_calls_that_fail_under_load_are_counted() -> None:
    took = [float(number) for number in range(1, 119)]
    load = figures(PRINTED, took, 40, 2.0)
    assert (load.rate, load.calls, load.failed) == (59.0, 120, 2)
    assert (round(load.p50), round(load.p99)) == (60, 118)
    # An error of gRPC has no body: h2load counts it as a success.
    assert figures(PRINTED.replace("118 succeeded", "120 succeeded"), took, 60, 2.0).failed == 40
    with pytest.raises(PeerError, match="none of 120 calls"):
        figures(PRINTED.replace("118 succeeded", "0 succeeded"), [], 40, 2.0)
    with pytest.raises(PeerError, match="printed no figures: usage"):
        figures("usage", [], 40, 2.0)


def test_a_machine_without_h2load_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PeerError, match="apt-get install nghttp2-client"):
        calls.h2load_version()
