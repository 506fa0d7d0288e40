"""Draw the generated dashboard as it looks after half an hour of calls: `make dashboard`. Needs a container engine.

A repo is generated with its containers: two replicas, Redis, and the Prometheus that it brings. Calls like the training
data come in; then one input is shifted, then Redis is frozen. At the end each query of the dashboard is put to that
Prometheus, and docs/dashboard.svg of the generated repo shows what it answered. Grafana is not needed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from tools.environment import Environment
from tools.process import SetupError, quietly

ROOT = Path(__file__).resolve().parent.parent
GENERATED = ROOT / "{{cookiecutter.project_slug}}"
PICTURE = GENERATED / "docs" / "dashboard.svg"
PANELS = GENERATED / "monitoring" / "grafana" / "dashboards" / "service.json"
BUILD = ROOT / "build" / "dashboard"
TRAFFIC = Path(__file__).with_name("traffic.py")
GRPC, METRICS, PROMETHEUS = 18001, 18002, 19090
"""Ports of this machine that the containers publish."""
ANSWERS = {"project_slug": "watched", "feature_store": "redis", "model_registry": "local"}
STEP_S = 15
SHOWN = 8
"""The most lines that a panel shows: those with the largest values."""
_TIMEOUT_S = 30.0
_SURROUNDINGS = os.environ | {
    "SCALE": "2",
    "GRPC_PORT": str(GRPC),
    "METRICS_PORT": str(METRICS),
    "PROMETHEUS_PORT": str(PROMETHEUS),
}
_PRECISE = re.compile(r"(?<=[ \"(])(-?\d+\.\d)\d+")  # a tenth of a point will do
_FONTS = re.compile(r"font-family: [^;]*")
_NARROW, _COLUMNS = ("stat", "table"), 3


def main() -> int:
    """Let a repo be called, and draw its dashboard; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each of the three parts (default %(default)s)")
    minutes = parser.parse_args().minutes
    try:
        repo = generated()
        with running(repo):
            began = time.time()
            with traffic(repo) as calls:
                goes_on(calls, minutes * 60)
                print("one input is shifted by a standard deviation ...", flush=True)
                print("1.0", file=calls.stdin)
                goes_on(calls, minutes * 60)
                print("Redis is frozen, and the input is as before ...", flush=True)
                print("0.0", file=calls.stdin)
                compose(repo, "pause", "feature-store")
                goes_on(calls, minutes * 60)
            compose(repo, "unpause", "feature-store")
            draw(json.loads(PANELS.read_text(encoding="utf-8")), began, time.time())
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"wrote {PICTURE.relative_to(ROOT)}")
    return 0


def generated() -> Path:
    """Generate the repo and train its model."""
    print(f"generating a repo in {BUILD.relative_to(ROOT)} and training its model ...", flush=True)
    shutil.rmtree(BUILD, ignore_errors=True)
    answers = [f"{question}={answer}" for question, answer in ANSWERS.items()]
    command = [sys.executable, "-m", "cookiecutter", str(ROOT), "--no-input", "--default-config", "-o", str(BUILD)]
    quietly([*command, *answers], "the template can't be generated")
    repo = BUILD / ANSWERS["project_slug"]
    quietly([sys.executable, str(repo / "tools" / "tasks.py"), "train"], "the model can't be trained")
    return repo


@contextmanager
def running(repo: Path) -> Iterator[None]:
    """Run the containers of the repo and its Prometheus while the block runs."""
    tasks = [sys.executable, str(repo / "tools" / "tasks.py")]
    print("starting its containers ...", flush=True)
    try:
        quietly([*tasks, "up"], "the containers don't start", _SURROUNDINGS)
        compose(repo, "--profile", "monitoring", "up", "--detach", "--build", "--wait", "prometheus")
        yield
    finally:
        subprocess.run([*tasks, "down"], cwd=repo, capture_output=True, check=False, env=_SURROUNDINGS)
        compose(repo, "--profile", "monitoring", "down", "--volumes", "--rmi", "local")


def compose(repo: Path, *words: str) -> None:
    """Run a Compose command."""
    command = ["docker", "compose", "--file", str(repo / "compose.yaml"), *words]
    quietly(command, f"`docker compose {' '.join(words)}` failed", _SURROUNDINGS)


@contextmanager
def traffic(repo: Path) -> Iterator[subprocess.Popen[str]]:
    """Call the service while the block runs; the process takes shifts of the first input by its standard input."""
    command = [str(Environment(repo / ".venv").python), str(TRAFFIC), f"localhost:{GRPC}"]
    paths = os.pathsep.join(map(str, (repo, repo / "src", repo / "client")))
    surroundings = os.environ | {"PYTHONPATH": paths}
    print("calling it ...", flush=True)
    with subprocess.Popen(command, cwd=repo, env=surroundings, stdin=subprocess.PIPE, text=True, bufsize=1) as process:
        yield process


def goes_on(calls: subprocess.Popen[str], seconds: float) -> None:
    """Let the calls go on.

    :raises SetupError: they have ended
    """
    try:
        code = calls.wait(seconds)
    except subprocess.TimeoutExpired:
        return
    raise SetupError(f"error: the calls ended with exit code {code}, for the reason above; no picture was drawn.")


def draw(dashboard: dict[str, Any], began: float, ended: float, picture: Path = PICTURE) -> None:
    """Draw every panel, in the order of the dashboard, from what Prometheus answers."""
    panels = dashboard["panels"]
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dashboard", "font.size": 8}):
        rows = -(-len(panels) // _COLUMNS)
        figure, axes = pyplot.subplots(rows, _COLUMNS, figsize=(13, 2.1 * rows), layout="constrained")
        for place, panel in zip(axes.flat, panels, strict=False):
            place.set_title(panel["title"], loc="left")
            if panel["type"] in _NARROW:
                _write(place, panel, ended)
            elif panel["type"] == "bargauge":
                _bars(place, panel, dashboard, ended)
            else:
                _lines(place, panel, began, ended)
        for place in axes.flat[len(panels) :]:
            place.set_axis_off()
        figure.savefig(picture, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        pyplot.close(figure)
    text = _FONTS.sub("font-family: sans-serif", _PRECISE.sub(r"\1", picture.read_text(encoding="utf-8")))
    lines = [line.rstrip() for line in text.splitlines()]
    picture.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def ask(path: str, **values: object) -> list[dict[str, Any]]:
    """Return the series that Prometheus finds."""
    with urlopen(f"http://localhost:{PROMETHEUS}/api/v1/{path}?{urlencode(values)}", timeout=_TIMEOUT_S) as answer:
        return list(json.loads(answer.read())["data"]["result"])


def _write(place: Any, panel: dict[str, Any], ended: float) -> None:
    """Write the values at the end: a number, or a line for each series."""
    place.set_axis_off()
    (target,) = panel["targets"]
    found = ask("query", query=target["expr"], time=ended)
    if panel["type"] == "stat":
        place.text(
            0.5, 0.5, " ".join(f"{float(one['value'][1]):g}" for one in found), ha="center", va="center", size=28
        )
        return
    lines = [f"{one['metric']['model']} {one['metric']['version']}, {one['metric']['digest'][:15]}..." for one in found]
    place.text(0, 0.5, "\n".join(lines), va="center")


def _lines(place: Any, panel: dict[str, Any], began: float, ended: float) -> None:
    """Draw the values over the minutes."""
    series = []
    for target in panel["targets"]:
        for one in ask("query_range", query=target["expr"], start=began, end=ended, step=STEP_S):
            values = [float(value) for _, value in one["values"]]
            series.append((_legend(target, one["metric"]), [(at - began) / 60 for at, _ in one["values"]], values))
    series.sort(key=lambda one: max(one[2]), reverse=True)
    for name, minutes, values in series[:SHOWN]:
        place.plot(minutes, values, label=name, linewidth=1)
    if len(series) > 1 or (series and series[0][0]):
        place.legend(fontsize=6, frameon=False, loc="upper left")
    place.set_ylim(bottom=0)
    place.set_xlabel("minutes")
    place.spines[["top", "right"]].set_visible(False)
    place.set_ylabel(
        {"s": "seconds", "reqps": "calls/s", "ops": "reads/s", "percentunit": "share"}.get(_unit(panel), "")
    )


def _bars(place: Any, panel: dict[str, Any], dashboard: dict[str, Any], ended: float) -> None:
    """Draw the shares of the first input, by bin: traffic beside training."""
    (variable,) = dashboard["templating"]["list"]
    name = min(one["metric"]["name"] for one in ask("query", query="serving_values_trained_share", time=ended))
    for number, (target, label) in enumerate(zip(panel["targets"], ("traffic", "training"), strict=True)):
        query = target["expr"].replace(f"${variable['name']}", name)
        shares = {one["metric"]["bin"]: float(one["value"][1]) for one in ask("query", query=query, time=ended)}
        bins = sorted(shares)
        place.bar([at + 0.4 * number for at in range(len(bins))], [shares[one] for one in bins], 0.4, label=label)
    place.set_title(panel["title"].replace(f"${variable['name']}", name), loc="left")
    place.set_xlabel("bin")
    place.legend(fontsize=6, frameon=False)
    place.spines[["top", "right"]].set_visible(False)


def _legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    if target["legendFormat"] != "__auto":
        return str(target["legendFormat"])
    return ", ".join(value for label, value in labels.items() if not label.startswith("__"))


def _unit(panel: dict[str, Any]) -> str:
    return str(panel["fieldConfig"]["defaults"]["unit"])


if __name__ == "__main__":
    sys.exit(main())
