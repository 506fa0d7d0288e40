"""The command line: sentences on stderr, data on stdout, and distinct exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving_client.cli import main
from tests.platform.support.fake_server import DIGEST, MODEL, NOT_SERVING, FakeServer, Hold, refuse

Run = Callable[..., tuple[int | str | None, str, str]]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; return its exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int | str | None, str, str]:
        try:
            code: int | str | None = main(arguments)
        except SystemExit as exit_:
            code = exit_.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def at(server: FakeServer) -> tuple[str, ...]:
    return ("--target", server.target, "--model", MODEL, "--timeout", "30")


def test_predict_prints_a_line_per_row(run: Run, server: FakeServer) -> None:
    server.parameters["defaulted_features"] = '{"age":[0,1]}'
    server.parameters["last_known_features"] = '{"weight":[1]}'
    assert run("predict", *at(server), "--input", '{"numbers": [1, 2.5]}') == (
        0,
        (
            f"numbers[0]  1.0\nnumbers[1]  2.5\nanswered by echo version 1, {DIGEST}\n"
            "the default of age was used for rows 0, 1\nthe last known weight was used for rows 1\n"
        ),
        "",
    )


def test_predict_prints_json(run: Run, server: FakeServer) -> None:
    code, out, _ = run("predict", *at(server), "--json", "--input", '{"numbers": [1]}')
    answer = json.loads(out)
    assert (code, answer["outputs"], answer["artifact_digest"]) == (0, {"numbers": [1.0]}, DIGEST)
    assert answer["request_id"] == server.request_ids("ModelInfer")[0]


def test_inputs_come_from_a_file_or_from_standard_input(
    run: Run, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "inputs.json"
    file.write_text('{"numbers": [1]}', encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO('{"numbers": [2]}'))
    assert run("predict", *at(server), "--input", f"@{file}")[1].startswith("numbers[0]  1.0\n")
    assert run("predict", *at(server), "--input", "-")[1].startswith("numbers[0]  2.0\n")


def test_metadata_say_what_to_send(run: Run, server: FakeServer) -> None:
    assert run("metadata", *at(server)) == (
        0,
        (
            "echo, version 1 (fake)\n"
            "  input   numbers                  FP32   [rows]  mm\n"
            "  output  numbers                  FP32   [rows]  mm\n"
        ),
        "",
    )


def test_metadata_print_json(run: Run, server: FakeServer) -> None:
    tensor = {"name": "numbers", "datatype": "FP32", "shape": [-1]}
    assert json.loads(run("metadata", *at(server), "--json")[1]) == {
        "name": "echo",
        "versions": ["1"],
        "platform": "fake",
        "inputs": [tensor],
        "outputs": [tensor],
        "properties": {"numbers.unit": "mm"},
    }


def test_health_sets_the_exit_code(run: Run, server: FakeServer) -> None:
    assert run("health", *at(server)) == (0, f"{server.target} SERVING\n", "")
    server.set_health(NOT_SERVING)
    code, out, _ = run("health", *at(server), "--json")
    assert (code, json.loads(out)) == (1, {"target": server.target, "status": "NOT_SERVING"})


def test_the_target_can_come_from_the_environment(
    run: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVING_TARGET", server.target)
    assert run("health")[1] == f"{server.target} SERVING\n"


def test_a_server_error_is_exit_code_1_and_shows_the_request_id(run: Run, server: FakeServer) -> None:
    server.script("ModelInfer", refuse(grpc.StatusCode.INTERNAL, "internal error."))
    code, out, error = run("predict", *at(server), "--input", '{"numbers": [1]}')
    assert (code, out) == (1, "")
    assert error == (f"error: {server.target}: internal error. (request id {server.request_ids('ModelInfer')[0]})\n")


def test_a_server_that_does_not_answer_is_exit_code_1(run: Run, server: FakeServer) -> None:
    server.script("ModelMetadata", Hold())
    code, _, error = run("metadata", "--target", server.target, "--timeout", "0.2")
    assert code == 1
    assert error.startswith(f"error: {server.target}: no answer within the timeout; ")


def test_an_invalid_request_is_exit_code_2(run: Run, server: FakeServer) -> None:
    code, _, error = run("predict", *at(server), "--input", '{"numbers": ["one"]}')
    assert (code, error) == (
        2,
        f"error: {server.target}: input 'numbers': row 0 has 'one', must be a number (FP32).\n",
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: command"),
        (["guess"], "invalid choice: 'guess'"),
        (["predict"], "the following arguments are required: --input"),
        (["predict", "--input", "{"], "argument --input: is not JSON (Expecting property name"),
        (["predict", "--input", "[1]"], 'argument --input: must be a JSON object such as {"age": [59, 48]}'),
        (["predict", "--input", "@no.json"], "argument --input: 'no.json' can't be read (No such file or directory)"),
        (["health", "--timeout", "0"], "argument --timeout: '0' is not a timeout; give seconds, more than 0"),
        (["health", "--timeout", "soon"], "argument --timeout: 'soon' is not a timeout; give seconds"),
        (["health", "--timeout", "inf"], "argument --timeout: 'inf' is not a timeout; give seconds"),
        (["health", "--target", "tcp://x:1"], "target 'tcp://x:1' is not an address; write host:port"),
        (["health", "--ca", "no.pem"], "tls: ca 'no.pem' can't be read (No such file or directory)."),
        (["health", "--key", "k.pem"], "tls: certificate and key go together; give both or neither."),
    ],
)
def test_a_wrong_command_line_is_exit_code_2_with_one_sentence(run: Run, arguments: list[str], sentence: str) -> None:
    code, out, error = run(*arguments)
    assert (code, out) == (2, "")
    assert sentence in error
    assert "Traceback" not in error


@pytest.mark.parametrize("option", [["--tls"], ["--server-name", "model.test"]])
def test_any_tls_option_encrypts_the_connection(run: Run, server: FakeServer, option: list[str]) -> None:
    code, out, error = run("health", *at(server), *option)
    assert (code, out) == (1, "")
    assert error.startswith(f"error: {server.target}: ")


def test_it_runs_as_a_module(server: FakeServer) -> None:
    command = [sys.executable, "-m", "serving_client"]
    folder = Path(__file__).parents[4] / "client"
    options: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True, "timeout": 60, "check": False}
    done = subprocess.run(
        [*command, "health", *at(server)], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{server.target} SERVING\n", "")
    help_ = subprocess.run([*command, "--help"], **options)
    assert help_.stdout.startswith("usage: python -m serving_client ")


def test_a_health_check_does_not_load_numpy() -> None:
    program = "import sys, serving_client.cli, serving_client.health; sys.exit('numpy' in sys.modules)"
    folder = Path(__file__).parents[4] / "client"
    assert subprocess.run([sys.executable, "-c", program], cwd=folder, timeout=60, check=False).returncode == 0
