"""A page with plots of the drift, drawn by Plotly in a separate environment: it would be in every other one for this.

The page holds Plotly's script, so it needs no network, and can be sent as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.domain.errors import OperatorError, quoted
from serving.offline import project

ENVIRONMENT = project.ROOT / "build" / "plots" / ".venv"
_TIMEOUT_S = 120.0
_LAST = 300

# What runs in the other environment, which has Plotly and nothing of this repo: drift as JSON in, a page out.
_PROGRAM = """
import json, sys
from plotly.graph_objects import Bar, Figure
from plotly.subplots import make_subplots

given = json.load(sys.stdin)
found, clear = given["found"], given["clear"]
label = lambda each: f"{each['kind']} {each['name']} (version {each['version']})"
drawn = [each for each in found if each["drift"] is not None]
binned = [each for each in found if each["now"]]
figures = []
if drawn:
    first = Figure(Bar(
        x=[each["drift"] for each in drawn],
        y=[label(each) for each in drawn],
        orientation="h",
        marker_color=["#cf222e" if each["drift"] > clear else "#1f6feb" for each in drawn],
    ))
    first.add_vline(clear, line_dash="dot")
    first.update_layout(
        title=f"Population stability index: above {clear} is a clear change",
        height=160 + 28 * len(drawn), yaxis_autorange="reversed", template="simple_white",
    )
    figures.append(first)
if binned:
    rows = -(-len(binned) // 2)
    titles = [
        f"{label(each)}: " + ("too few rows" if each["drift"] is None else f"{each['drift']:.3f}") for each in binned
    ]
    second = make_subplots(rows=rows, cols=2, subplot_titles=titles)
    for place, each in enumerate(binned):
        bins = [name[3:] if name[:2].isdecimal() else name for name in each["bins"]]  # without the number of the bin
        for name, colour in (("trained", "#8b949e"), ("now", "#1f6feb")):
            bar = Bar(x=bins, y=each[name], name=name, marker_color=colour, legendgroup=name, showlegend=not place)
            second.add_trace(bar, row=place // 2 + 1, col=place % 2 + 1)
    second.update_yaxes(tickformat=".0%")
    second.update_layout(height=360 * rows, barmode="group", template="simple_white", title="Share of rows by bin")
    figures.append(second)
parts = [figure.to_html(full_html=False, include_plotlyjs=not place) for place, figure in enumerate(figures)]
head = "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>Drift</title></head><body>"
sys.stdout.write("".join([head, *parts, "</body></html>"]))
"""


def draw(found: Sequence[Mapping[str, Any]], clear: float, target: Path) -> None:
    """Write the page, which appears whole.

    :raises OperatorError: the environment is missing, or the page can't be drawn or written
    """
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        raise OperatorError(f'{ENVIRONMENT}: is missing; `make drift ARGS="--html {target}"` makes it.')
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _PROGRAM],
            input=json.dumps({"found": list(found), "clear": clear}).encode(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        last = quoted(said.decode("utf-8", "replace").strip()[-_LAST:], _LAST)
        raise OperatorError(f"the page can't be drawn: {last}; run `make clean`, then the command again.") from None
    staged = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        staged.write_bytes(done.stdout)
        staged.replace(target)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise OperatorError(f"{target}: can't be written ({error.strerror}); name another file.") from None
