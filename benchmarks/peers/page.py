"""The page of the results: docs/peers.md."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path

from benchmarks.peers.models import MODELS, callers_of
from benchmarks.peers.results import Figures, Results, Row

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "peers.md"
_BEGIN, _END = "<!-- measured -->\n", "<!-- end of what was measured -->\n"


def write(found: Results) -> Path:
    """Put the tables into the page; return its path."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(before + _BEGIN + tables(found) + _END + after, encoding="utf-8", newline="\n")
    return PAGE


def tables(found: Results) -> str:
    """Return everything that was measured, in Markdown."""
    rounds = f"{found.rounds} round{'s' if found.rounds > 1 else ''} of {found.seconds:g} s"
    measured = f"Measured on {found.date}, {rounds} or more per cell, on {found.machine}."
    beside = f"Other processes took {found.others:.2f} cores meanwhile."
    parts = [textwrap.fill(f"{measured} {beside}", 118) + "\n"]
    parts += [table(found, model) for model in MODELS if any(model in row.figures for row in found.rows)]
    return "\n".join([*parts, servers(found)])


def table(found: Results, model: str) -> str:
    """Return the figures of one model, the fastest server first."""
    every = callers_of(model)
    rows = [row for row in found.rows if model in row.figures]
    rows.sort(key=lambda row: -row.figures[model][every[-1]].rate if every[-1] in row.figures[model] else 0)
    head = ["server", "calls", *(f"{callers}: {title}" for callers in every for title in _titles(callers))]
    head += ["CPU us per call", "calls/s of ours, here = 1", "failed"]
    lines = [f"### {model.capitalize()}: {MODELS[model]}", "", _line(head), _line(["---"] * len(head))]
    lines += [_line(_cells(row, model, every)) for row in rows]
    return "\n".join(lines) + "\n"


def _titles(callers: int) -> tuple[str, ...]:
    return ("p50 ms", "p99 ms") if callers == 1 else ("calls/s", "p99 ms")


def _cells(row: Row, model: str, every: tuple[int, ...]) -> list[str]:
    figures = row.figures[model]
    cells = [_name(row.server, row.ours), f"{'gRPC' if row.transport == 'grpc' else f'REST, {row.endpoint}'}"]
    for callers in every:
        if callers not in figures:
            cells += ["", ""]
        elif callers == 1:
            cells += [_short(figures[1].p50), _short(figures[1].p99)]
        else:
            cells += [_short(figures[callers].rate), _short(figures[callers].p99)]
    last = [each for callers, each in figures.items() if callers == every[-1]]
    return [*cells, *(_last(last[0]) if last else ["", ""]), _failed(figures)]


def _last(figures: Figures) -> list[str]:
    return [f"{figures.cpu:,.0f}", _short(figures.ratio) if figures.ratio > 0 else ""]


def _failed(figures: Mapping[int, Figures]) -> str:
    return str(sum(each.failed for each in figures.values()) or "")


def _name(title: str, ours: bool) -> str:
    return f"**{title}**" if ours else title


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def servers(found: Results) -> str:
    """Return what does not depend on the load, and what could not be measured."""
    head = ["server", "ready after s", "memory MB", "configuration", "not measured"]
    lines = ["### Start and memory, linear model", "", _line(head), _line(["---"] * len(head))]
    ours = {row.server for row in found.rows if row.ours}
    for each in found.servers:
        numbers = ["" if math.isnan(value) else f"{value:.3g}" for value in (each.ready, each.memory)]
        lines.append(_line([_name(each.title, each.title in ours), *numbers, each.note, _safe("; ".join(each.faults))]))
    return "\n".join(lines) + "\n"


def _safe(text: str) -> str:
    return " ".join(text.replace("|", "/").replace("<", "&lt;").split())


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
