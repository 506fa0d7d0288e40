"""A real browser in a container: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.containers.stack import docker

IMAGE = "browser-of-tests:local"
DOCKERFILE = """\
FROM python:3.11-slim-trixie
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium-headless-shell
RUN pip install --quiet --no-cache-dir playwright==1.56.0
"""
PROGRAM = Path(__file__).with_name("swagger_page.py")


def predict_on_the_page(address: str, folder: Path) -> dict[str, Any]:
    """Send the example on a Swagger UI page; return what the page shows. A picture of it is left in the folder."""
    docker("build", "--quiet", "--tag", IMAGE, "-", stdin=DOCKERFILE)
    shown = docker(
        "run", "--rm", "--network", "host", "--volume", f"{PROGRAM}:/program.py:ro", "--volume", f"{folder}:/pictures",
        IMAGE, "python", "/program.py", address, "/pictures/swagger.png",
    )  # fmt: skip
    return dict(json.loads(shown.splitlines()[-1]))
