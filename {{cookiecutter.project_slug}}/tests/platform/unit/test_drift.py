"""Drift against training, with the counts that a server keeps."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import numpy.typing as npt
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serving.domain.distributions import Distributions, describe, drift
from serving.domain.errors import OperatorError
from serving.domain.features import Feature
from serving.domain.references import Reference
from serving.domain.tensors import Datatype, TensorSpec
from serving.offline import drift as command
from serving.offline import drift_page
from serving.online.value_counts import ValueCounts

SPEC = TensorSpec("x", Datatype.FP32)
CALLS_PER_MINUTE = 600
WINDOW = 10
TRAINED = np.random.default_rng(7).normal(50, 10, 442).astype(np.float32)
KNOWN = describe([SPEC], {"x": TRAINED}, outputs=False)["x"]

Numbers = npt.NDArray[np.float32]


def minutes(count: int, shift: float, seed: int) -> list[Numbers]:
    """Draw the values of some minutes of traffic, `shift` standard deviations beside training."""
    drawn = np.random.default_rng(seed).normal(50 + shift * 10, 10, (count, CALLS_PER_MINUTE))
    return list(drawn.astype(np.float32))


def counted(values: list[Numbers]) -> list[float]:
    counts = ValueCounts(Reference("local", "m", "1", "sha256=0"), [Feature("x")], [], Distributions({"x": KNOWN}))
    for rows in values:
        counts.count(len(rows), {"x": rows}, {})
    _, found, _ = counts.collect()
    return [sample.value for sample in found.samples]


def windows(traffic: list[Numbers]) -> list[float]:
    """Return the drift of each ten minutes, minute by minute, as the recording rule has it."""
    return [drift(KNOWN.shares, counted(traffic[end - WINDOW : end])) for end in range(WINDOW, len(traffic) + 1)]


@pytest.mark.parametrize("seed", range(5))
def test_an_hour_of_traffic_like_training_is_no_drift(seed: int) -> None:
    assert max(windows(minutes(60, 0.0, seed))) < command.CLEAR / 2


@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_a_shift_by_one_standard_deviation_is_clear_within_ten_minutes_at_ten_calls_a_second(shift: float) -> None:
    found = windows(minutes(WINDOW, 0.0, 1) + minutes(WINDOW, shift, 2))
    assert found[0] < command.CLEAR < found[7]  # 7 minutes after the shift; the alert waits for 2 more


def test_the_fewest_rows_that_are_looked_at_are_no_drift_by_chance() -> None:
    drawn = np.random.default_rng(3).normal(50, 10, (1000, command.LEAST_ROWS)).astype(np.float32)
    assert max(drift(KNOWN.shares, counted([rows])) for rows in drawn) < command.CLEAR


def test_a_bin_that_was_never_seen_in_training_counts_without_being_infinite() -> None:
    assert drift([0.0, 1.0], [500, 500]) == pytest.approx(0.4999 * np.log(5000) - 0.5 * np.log(0.5))
    assert drift([0.5, 0.5], [1, 1]) == 0


def page(values: list[Numbers]) -> str:
    registry = CollectorRegistry()
    counts = ValueCounts(Reference("local", "m", "1", "sha256=0"), [Feature("x")], [], Distributions({"x": KNOWN}))
    for rows in values:
        counts.count(len(rows), {"x": rows}, {})
    registry.register(counts)
    return generate_latest(registry).decode()


@contextmanager
def website(pages: dict[str, str]) -> Iterator[str]:
    """Serve texts by path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = pages.get(self.path)
            self.send_response(200 if text is not None else 404)
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_command_adds_up_all_replicas(capsys: pytest.CaptureFixture[str]) -> None:
    halves = {"/1": page(minutes(1, 1.0, 1)), "/2": page(minutes(1, 1.0, 2))}
    with website(halves) as url:
        assert command.main([f"{url}/1", f"{url}/2"]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[:4] == ["1", "input", "x", "1200"]
    assert float(line.split()[4]) > command.CLEAR
    assert line.endswith("more than 0.25: see docs/monitoring.md")


def test_the_command_says_nothing_about_too_few_rows(capsys: pytest.CaptureFixture[str]) -> None:
    with website({"/": page([minutes(1, 0.0, 1)[0][:499]])}) as url:
        assert command.main([f"{url}/"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("499       -  fewer than 500 rows")


def test_the_command_asks_a_prometheus(capsys: pytest.CaptureFixture[str]) -> None:
    metric = {"version": "1", "kind": "output", "name": "y", "job": "serving"}
    answer = {"data": {"result": [{"metric": metric, "value": [1.5, "0.125"]}]}}
    with website({"/api/v1/query?query=serving%3Adrift%3Apsi": json.dumps(answer)}) as url:
        assert command.main(["--prometheus", f"{url}/"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["1", "output", "y", "0.125"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere", "can't be read"),
        ("empty", "no input or output can be compared"),
        ("--prometheus {url}/other", "is not that of a Prometheus"),
        ("ftp", "'ftp' is no URL"),
    ],
)
def test_what_can_not_be_read_is_one_sentence(path: str, words: str) -> None:
    with website({"/empty": "", "/other/api/v1/query?query=serving%3Adrift%3Apsi": "[]"}) as url:
        arguments = path.format(url=url).split() if "{url}" in path else [path if path == "ftp" else f"{url}/{path}"]
        with pytest.raises(OperatorError, match=words):
            command.main(arguments)


class Drawing:
    """Stand in for the environment of the plots: a Python that gives back what it gets, as a page."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
        python = folder / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!{sys.executable}\n{program}", encoding="utf-8")
        python.chmod(0o755)
        monkeypatch.setattr(drift_page, "ENVIRONMENT", folder)


@pytest.mark.skipif(os.name == "nt", reason="a script is no program there")
def test_the_page_is_drawn_from_all_bins_and_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Drawing(tmp_path / "venv", monkeypatch, "import sys; print(sys.stdin.read())")
    target = tmp_path / "drift.html"
    with website({"/": page(minutes(1, 1.0, 1))}) as url:
        assert command.main([f"{url}/", "--html", str(target)]) == 0
    (column,) = json.loads(target.read_text(encoding="utf-8"))["found"]
    assert column["bins"] == list(KNOWN.names)
    assert column["trained"] == list(KNOWN.shares)
    assert sum(column["now"]) == pytest.approx(1)
    assert [path.name for path in tmp_path.glob("*drift*")] == ["drift.html"]


@pytest.mark.skipif(os.name == "nt", reason="a script is no program there")
@pytest.mark.parametrize(
    ("program", "target", "said"),
    [
        (None, "drift.html", "is missing; `make drift"),
        ("raise SystemExit('no such library')", "drift.html", "can't be drawn: 'no such library'"),
        ("print('page')", "nowhere/drift.html", "nowhere/drift.html: can't be written"),
        ("print('page')", "a-folder", "a-folder: can't be written"),
    ],
)
def test_a_page_that_can_not_be_drawn_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None, target: str, said: str
) -> None:
    monkeypatch.setattr(drift_page, "ENVIRONMENT", tmp_path / "nowhere")
    (tmp_path / "a-folder").mkdir()
    if program is not None:
        Drawing(tmp_path / "venv", monkeypatch, program)
    with website({"/": page(minutes(1, 1.0, 1))}) as url, pytest.raises(OperatorError, match=said):
        command.main([f"{url}/", "--html", str(tmp_path / target)])
    assert {path.name for path in tmp_path.iterdir()} <= {"a-folder", "venv"}
