from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.chart import HEIGHT, MARGIN, WIDTH, chart

NAME = "{http://www.w3.org/2000/svg}"


def parsed(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)  # noqa: S314 - a text of our own


def test_a_line_has_a_point_for_each_value_inside_the_axes() -> None:
    picture = parsed(chart("Calls & rates", "callers", "calls/s", {"<ours>": [(1, 10), (8, 1000)]}))
    (line,) = picture.iter(f"{NAME}polyline")
    assert line.attrib["points"] == f"{MARGIN}.0,{HEIGHT - MARGIN}.0 {WIDTH - MARGIN}.0,{MARGIN}.0"
    texts = [text.text for text in picture.iter(f"{NAME}text")]
    assert {"Calls & rates", "callers", "calls/s", "1", "8", "10", "100", "1,000", "<ours>"} <= set(texts)


def test_a_single_point_is_a_picture_too() -> None:
    picture = parsed(chart("t", "x", "y", {"one": [(4, 2)], "two": [(4, 2)]}))
    assert len(list(picture.iter(f"{NAME}polyline"))) == 2
