"""Swagger UI, a page that shows the OpenAPI document and sends requests; its files come from this server alone."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from serving.online.rest.scope import Endpoint

# No other host: not for scripts, not for fonts, not for a validator of the document. Swagger UI writes styles itself.
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
_HEADERS = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>REST API</title><link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body>
</html>
"""
_START = 'SwaggerUIBundle({url: "/v2/openapi.json", dom_id: "#page", validatorUrl: null, tryItOutEnabled: true});\n'
_FILES = ("stylesheets/swagger-ui.css", "javascripts/swagger-ui-bundle.js")


def routes() -> list[BaseRoute]:
    """Return the routes of the page and its files."""
    folder = _folder()
    files = [Route(f"/docs/{Path(name).name}", _file(folder / name)) for name in _FILES]
    return [
        Route("/docs", _text(_PAGE, "text/html")),
        Route("/docs/start.js", _text(_START, "text/javascript")),
        *files,
    ]


def _folder() -> Path:
    # Found, not imported: the package is a plugin of another program.
    found = importlib.util.find_spec("mkdocs_swagger_ui_tag")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("mkdocs_swagger_ui_tag is missing; install requirements/rest_api.txt.")
    return Path(found.origin).parent / "swagger-ui"


def _text(content: str, kind: str) -> Endpoint:
    async def answer(_request: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=kind)

    return answer


def _file(path: Path) -> Endpoint:
    async def answer(_request: Request) -> Response:
        return FileResponse(path, headers=_HEADERS)

    return answer
