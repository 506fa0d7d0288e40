"""The plots of the results: docs/peers-MODEL.svg."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from benchmarks.peers.models import MODELS
from benchmarks.peers.results import Results

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
CALLERS = 8
_OURS, _GRPC, _REST = "#1a7f37", "#54aeff", "#d4a72c"


def draw(found: Results, folder: Path = DOCS) -> list[Path]:
    """Draw the calls per second of each server, a file for each model."""
    return [_draw(found, model, folder / f"peers-{model}.svg") for model in MODELS]


def _draw(found: Results, model: str, path: Path) -> Path:
    rows = [row for row in found.rows if CALLERS in row.figures.get(model, {})]
    rows.sort(key=lambda row: row.figures[model][CALLERS].rate)
    labels = [f"{row.server}, {'gRPC' if row.transport == 'grpc' else row.endpoint}" for row in rows]
    rates = [row.figures[model][CALLERS].rate for row in rows]
    colors = [_OURS if row.ours else _GRPC if row.transport == "grpc" else _REST for row in rows]
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": model, "font.family": "sans-serif"}):
        figure, axes = pyplot.subplots(figsize=(9, 0.9 + 0.28 * len(rows)), layout="constrained")
        bars = axes.barh(labels, rates, color=colors, height=0.7)
        axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=3)
        axes.set_title(
            f"{model.capitalize()} model, {CALLERS} callers: calls per second (longer is better)", loc="left"
        )
        axes.margins(x=0.1, y=0.01)
        axes.spines[["top", "right"]].set_visible(False)
        handles = [pyplot.Rectangle((0, 0), 1, 1, color=color) for color in (_OURS, _GRPC, _REST)]
        axes.legend(handles, ["this template, gRPC", "gRPC", "REST"], loc="lower right", frameon=False)
        figure.savefig(path, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        pyplot.close(figure)
    path.write_text(
        "\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()) + "\n",
        encoding="utf-8",
        newline="\n",
    )
    return path
