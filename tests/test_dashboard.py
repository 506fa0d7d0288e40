"""The picture of the dashboard shows the panels that the dashboard has."""

from __future__ import annotations

import json
import re
from html import unescape

from local_extensions import ROOT_FOLDER
from tests.support import ROOT

GENERATED = ROOT / ROOT_FOLDER
PANELS = GENERATED / "monitoring" / "grafana" / "dashboards" / "service.json"
PICTURE = GENERATED / "docs" / "dashboard.svg"


def test_the_picture_has_every_panel_in_order() -> None:
    titles = [panel["title"] for panel in json.loads(PANELS.read_text(encoding="utf-8"))["panels"]]
    assert len(titles) > 10
    texts = iter(
        unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", PICTURE.read_text(encoding="utf-8"))
    )
    for title in titles:
        shown = title.partition("$name")[2] or title
        assert any(text.endswith(shown) for text in texts), f"{title}: draw the picture again with `make dashboard`"
