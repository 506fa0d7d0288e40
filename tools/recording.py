"""Draw the terminal of `make demo` as docs/demo.svg: `make recording`.

The picture's lines come from a real run, and a test compares them with a later one. Only what differs between two runs
is left out of that comparison: digests, measured values and ports.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "demo.svg"

_PROMPT = "$ make demo"
_FIRST, _LAST = "generating a repo", "answered by "
_TIMEOUT_S = 600.0
_DIGEST = re.compile(r"sha256=([0-9a-f]{8})[0-9a-f]{56}")
_FONT_SIZE, _CHARACTER, _LINE, _MARGIN = 14, 8.43, 20, 16
_PAPER, _INK, _ACCENT = "#0d1117", "#c9d1d9", "#7ee787"


class RecordingError(Exception):
    """The demo failed or printed something else; the text is one sentence."""


def main() -> int:
    """Run the demo and draw it; return the exit code."""
    done = subprocess.run(
        [sys.executable, "tools/tasks.py", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=_TIMEOUT_S
    )
    try:
        if done.returncode:
            raise RecordingError(f"error: `make demo` failed with exit code {done.returncode}; run it to see why.")
        PICTURE.write_text(draw(shown(done.stdout)), encoding="utf-8", newline="\n")
    except RecordingError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"wrote {PICTURE.relative_to(ROOT)}")
    return 0


def shown(printed: str) -> list[str]:
    """Return the lines of a demo that the picture shows: from generating to the answer, with digests cut short.

    :raises RecordingError: there is no such part
    """
    lines = [_DIGEST.sub(r"sha256=\1...", line) for line in printed.splitlines()]
    first = next((number for number, line in enumerate(lines) if line.startswith(_FIRST)), None)
    last = next((number for number, line in enumerate(lines) if line.startswith(_LAST)), None)
    if first is None or last is None:
        raise RecordingError(f"error: `make demo` printed no line that begins with {_FIRST!r} or {_LAST!r}.")
    return [_PROMPT, *lines[first : last + 1]]


def comparable(lines: Sequence[str]) -> list[str]:
    """Return the lines without what differs between two runs on any two machines."""
    masked = (re.sub(r"sha256=[0-9a-f.]+", "sha256=...", line) for line in lines)
    masked = (re.sub(r"localhost:\d+", "localhost:...", line) for line in masked)
    return [" ".join(re.sub(r"\d+\.\d+", "...", line).split()) for line in masked]


def draw(lines: Sequence[str]) -> str:
    """Return an SVG image of a terminal with these lines; it needs nothing from elsewhere."""
    width = round(max(map(len, lines)) * _CHARACTER) + 2 * _MARGIN
    height = len(lines) * _LINE + 2 * _MARGIN
    texts = "\n".join(_text(number, line) for number, line in enumerate(lines))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(lines[0])}">
<rect width="100%" height="100%" rx="8" fill="{_PAPER}"/>
<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{_FONT_SIZE}" fill="{_INK}">
{texts}
</g>
</svg>
"""


def drawn(picture: str) -> list[str]:
    """Return the lines that a picture of `draw` shows."""
    return [unescape(text) for text in re.findall(r"<text[^>]*>(.*)</text>", picture)]


def _text(number: int, line: str) -> str:
    baseline = _MARGIN + number * _LINE + _FONT_SIZE
    accent = f' fill="{_ACCENT}"' if line.startswith(("$", _LAST)) else ""
    # The width holds columns together where the font is another one.
    length = f' textLength="{len(line) * _CHARACTER:.0f}"' if line else ""
    return f'<text x="{_MARGIN}" y="{baseline}" xml:space="preserve"{length}{accent}>{escape(line)}</text>'


if __name__ == "__main__":
    sys.exit(main())
