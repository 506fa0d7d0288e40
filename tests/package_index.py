"""A local package index that requires a name and a password, for tests of where packages come from."""

from __future__ import annotations

import base64
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType


class PackageIndex:
    """Serve the wheels in a folder over the simple repository API while the `with` block runs."""

    def __init__(self, folder: Path, user: str, password: str) -> None:
        self._folder = folder
        folder.mkdir()
        self.served: list[str] = []
        self.refused = 0
        """How many requests came with a wrong name or password; one without any is asked for them."""
        self._right = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://{user}:{password}@127.0.0.1:{self._server.server_port}/simple"

    def add(self, wheel: Path) -> None:
        """Offer a wheel."""
        shutil.copy(wheel, self._folder)

    def __enter__(self) -> PackageIndex:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization")
                if given != index._right:
                    index.refused += given is not None
                    self._answer(401, b"", "text/plain")
                    return
                self._answer(*index._answer(self.path))

            do_HEAD = do_GET  # noqa: N815 - the library's name

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the library's name
                pass

            def _answer(self, status: int, content: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="index"')
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

        return Handler

    def _answer(self, path: str) -> tuple[int, bytes, str]:
        names = sorted(wheel.name for wheel in self._folder.glob("*.whl"))
        if match := re.fullmatch(r"/simple/([\w-]+)/?", path):
            links = [f'<a href="/files/{name}">{name}</a>' for name in names if name.startswith(f"{match[1]}-")]
            if links:
                return 200, f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode(), "text/html"
        if (name := path.removeprefix("/files/")) in names:
            self.served.append(name)
            return 200, (self._folder / name).read_bytes(), "application/octet-stream"
        return 404, b"", "text/plain"
