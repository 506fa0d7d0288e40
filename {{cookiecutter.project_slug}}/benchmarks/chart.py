"""A line chart as SVG, both axes logarithmic: a plotting library would be in every environment for two curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, MARGIN = 640, 360, 60
COLOURS = ("#1f6feb", "#8b949e", "#d29922")

Points = Sequence[tuple[float, float]]


def chart(title: str, x: str, y: str, lines: Mapping[str, Points]) -> str:
    """Return the picture of some lines; `x` and `y` name the axes, and all values are above 0."""
    xs, ys = ([point[side] for points in lines.values() for point in points] for side in (0, 1))
    across, down = _Scale(xs, MARGIN, WIDTH - MARGIN), _Scale(ys, HEIGHT - MARGIN, MARGIN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 24, title, "middle", 15),
        _text(WIDTH / 2, HEIGHT - 14, x, "middle"),
        _text(MARGIN, MARGIN - 14, y, "middle"),
    ]
    parts += [_text(across(value), HEIGHT - MARGIN + 18, f"{value:,.0f}", "middle") for value in sorted(set(xs))]
    for value in down.ticks():
        parts.append(f'<path d="M{MARGIN} {down(value):.1f}H{WIDTH - MARGIN}" stroke="#d0d7de"/>')
        parts.append(_text(MARGIN - 6, down(value) + 4, f"{value:,g}", "end"))
    for place, ((name, points), colour) in enumerate(zip(lines.items(), COLOURS, strict=False)):
        path = " ".join(f"{across(a):.1f},{down(b):.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(MARGIN + 10, MARGIN + 8 + 16 * place, name, "start", colour=colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """Place values between two pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, self._high = math.log10(min(values)), math.log10(max(values))
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self._low) / ((self._high - self._low) or 1.0)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Return round values between the least and the largest."""
        powers = range(math.floor(self._low), math.ceil(self._high) + 1)
        rounds = (step * 10.0**power for power in powers for step in (1, 2, 5))
        return [value for value in rounds if self._low <= math.log10(value) <= self._high]


def _text(x: float, y: float, text: str, anchor: str, size: int = 12, *, colour: str = "#24292f") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
    )
