"""Run by a browser's container: open Swagger UI, send the example of the prediction, print what the page shows."""

import json
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

# As root in a container, Chromium has no sandbox.
OPTIONS = {"executable_path": "/usr/bin/chromium-headless-shell", "args": ["--no-sandbox"]}
PATIENCE_MS = 30_000


def main(page_address: str, picture: str) -> None:
    """Print status, answer, hosts that were asked, and what the browser's console said."""
    hosts: set[str] = set()
    console: list[str] = []
    with sync_playwright() as playwright, playwright.chromium.launch(**OPTIONS) as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        page.on("console", lambda message: console.append(message.text))
        page.goto(page_address)
        call = page.locator("#operations-default-model_infer")
        call.locator(".opblock-summary-control").click()
        call.get_by_role("button", name="Execute").click()
        shown = call.locator(".live-responses-table")
        answer = shown.locator(".response-col_description pre").first.inner_text()
        status = shown.locator("tbody .response-col_status").first.inner_text()
        Path(picture).write_bytes(page.screenshot(full_page=True))
    print(json.dumps({"status": status, "answer": json.loads(answer), "hosts": sorted(hosts), "console": console}))


if __name__ == "__main__":
    main(*sys.argv[1:])
