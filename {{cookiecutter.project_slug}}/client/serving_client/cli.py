"""The command line: predict, health, metadata.

Exit codes: 0 success; 1 the server is not ready, unreachable or failed; 2 the command line or the request is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .channel import Tls
from .deadline import LONGEST_S, Deadline
from .errors import InvalidRequest, ServingClientError

DEFAULT_TARGET = "localhost:8001"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = _parser().parse_args(arguments)
    tls = None
    if options.tls or options.ca or options.certificate or options.key or options.server_name or options.token_file:
        tls = Tls(options.ca, options.certificate, options.key, options.server_name, options.token_file)
    try:
        return int(_COMMANDS[options.command](options, tls))
    except ServingClientError as error:
        known = f" (request id {error.request_id})" if error.request_id else ""
        print(f"error: {options.target}: {error}{known}", file=sys.stderr)
        return 2 if isinstance(error, InvalidRequest) else 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    script = Path(sys.argv[0]).name
    name = f"python -m {__package__}" if script == "__main__.py" else script
    parser = argparse.ArgumentParser(prog=name, description="Ask a served model for predictions.")
    common = argparse.ArgumentParser(add_help=False)
    target = os.environ.get("SERVING_TARGET", DEFAULT_TARGET)
    common.add_argument("--target", default=target, help="host:port (default: SERVING_TARGET, now %(default)s)")
    common.add_argument("--timeout", type=_seconds, default=5.0, help="timeout in seconds (default: %(default)s)")
    common.add_argument("--model", help="name of the model (default: the service that this client belongs to)")
    common.add_argument("--json", action="store_true", help="print JSON instead of a table")
    common.add_argument("--tls", action="store_true", help="use TLS; each option below implies it")
    common.add_argument("--ca", help="PEM file of the CA that verifies the server (default: the system's CAs)")
    common.add_argument("--certificate", help="PEM file with the client's certificate (mutual TLS)")
    common.add_argument("--key", help="PEM file with the private key of that certificate")
    common.add_argument("--server-name", default="", help="name in the server's certificate, if it is not the target's")
    common.add_argument("--token-file", help="file with the bearer token on its first line")
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser("predict", parents=[common], help="ask for a prediction")
    predict.add_argument(
        "--input",
        required=True,
        type=_inputs,
        metavar="JSON",
        help="JSON with a list per input, one value per row, such as '{\"age\": [59, 48]}'; "
        "@file reads a file, - reads standard input",
    )
    commands.add_parser("health", parents=[common], help="say whether the server takes predictions (exit code 0 or 1)")
    commands.add_parser("metadata", parents=[common], help="describe the model: what to send, what comes back")
    return parser


def _predict(options: argparse.Namespace, tls: Tls | None) -> int:
    from .client import Client

    with Client(options.target, model=options.model, tls=tls) as client:
        answer = client.predict(options.input, timeout=options.timeout).as_dict()
    if options.json:
        print(json.dumps(answer))
        return 0
    for name, rows in answer["outputs"].items():
        for number, value in enumerate(rows):
            print(f"{name}[{number}]  {value}")
    print(f"answered by {answer['model']} version {answer['model_version']}, {answer['artifact_digest']}")
    for name, numbers in answer["defaulted"].items():
        print(f"the default of {name} was used for rows {', '.join(map(str, numbers))}")
    for name, numbers in answer["last_known"].items():
        print(f"the last known {name} was used for rows {', '.join(map(str, numbers))}")
    return 0


def _health(options: argparse.Namespace, tls: Tls | None) -> int:
    from .channel import OPTIONS, connect
    from .health import SERVING, Health

    health = Health(connect(options.target, tls, OPTIONS))
    try:
        status = health.check(timeout=options.timeout)
    finally:
        health.close()
    print(json.dumps({"target": options.target, "status": status}) if options.json else f"{options.target} {status}")
    return 0 if status == SERVING else 1


def _metadata(options: argparse.Namespace, tls: Tls | None) -> int:
    from .client import Client

    with Client(options.target, model=options.model, tls=tls) as client:
        metadata = client.metadata(timeout=options.timeout)
    if options.json:
        print(json.dumps({**vars(metadata), "inputs": _specs(metadata.inputs), "outputs": _specs(metadata.outputs)}))
        return 0
    print(f"{metadata.name}, version {', '.join(metadata.versions)} ({metadata.platform})")
    for side, specs in (("input", metadata.inputs), ("output", metadata.outputs)):
        for spec in specs:
            shape = ", ".join("rows" if size < 0 else str(size) for size in spec.shape)
            words = [metadata.properties.get(f"{spec.name}.{key}", "") for key in ("unit", "description")]
            print(f"  {side:6}  {spec.name:24} {spec.datatype:6} [{shape}]  {'  '.join(filter(None, words))}".rstrip())
    return 0


_COMMANDS = {"predict": _predict, "health": _health, "metadata": _metadata}


def _specs(specs: Sequence[Any]) -> list[dict[str, Any]]:
    return [vars(spec) for spec in specs]


def _inputs(argument: str) -> dict[str, Any]:
    """Read the inputs from the argument, a file or standard input."""
    try:
        if argument == "-":
            text = sys.stdin.read()
        elif argument.startswith("@"):
            text = Path(argument[1:]).read_text(encoding="utf-8")
        else:
            text = argument
        inputs = json.loads(text)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{argument[1:]!a} can't be read ({error.strerror})") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is not JSON ({error})") from None
    if not isinstance(inputs, dict):
        raise argparse.ArgumentTypeError('must be a JSON object such as {"age": [59, 48]}')
    return inputs


def _seconds(text: str) -> float:
    try:
        value = float(text)
        Deadline(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!a} is not a timeout; give seconds, more than 0 and at most {LONGEST_S:.0f}"
        ) from None
    return value
