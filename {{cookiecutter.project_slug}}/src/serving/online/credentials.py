"""The server's certificate and the tokens of its callers: read at start, and again when their files change."""

from __future__ import annotations

import contextlib
import hmac
import logging
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from serving.domain.errors import SettingsError

log = logging.getLogger(__name__)

Content = TypeVar("Content")
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]{16,4096}")


class Watched(Generic[Content]):
    """Hold what was read from files; a change that can't be used is logged, and the old content stays.

    The files are looked at when the content is needed: that costs microseconds, and no change is missed.
    """

    def __init__(self, files: tuple[Path, ...], read: Callable[[], Content]) -> None:
        self._files = files
        self._read = read
        self._seen = self._signature()
        self.content = read()

    def changed(self) -> bool:
        """Read the files again if they have changed; return whether there is new content."""
        signature = self._signature()
        if signature == self._seen:
            return False
        self._seen = signature  # one log line for each change, not for each call
        try:
            content = self._read()
        except SettingsError as error:
            log.error("%s The server goes on with what it read before.", error)
            return False
        self.content = content
        log.info("read again: %s", ", ".join(map(str, self._files)))
        return True

    def _signature(self) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        for file in self._files:
            try:
                status = file.stat()
                found.append((status.st_mtime_ns, status.st_ino, status.st_size))
            except OSError:
                found.append(())
        return found


class Tokens:
    """Know the tokens that let a caller in; several are valid at once while callers change from one to the next.

    :raises SettingsError: the file can't be read, or has no token
    """

    def __init__(self, file: Path) -> None:
        self._watched = Watched((file,), lambda: _tokens(file))

    def accept(self, sent: bytes) -> bool:
        """Return whether this is one of them; takes equally long for each wrong one."""
        self._watched.changed()
        matches = [hmac.compare_digest(sent, token) for token in self._watched.content]
        return any(matches)


def tls_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """Return a server's TLS context; with `client_ca`, clients must show a certificate that it has signed.

    :raises SettingsError: a file can't be used
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = f"SERVING_TLS_CERTIFICATE={certificate}, SERVING_TLS_KEY={key}"
    with readable(pair, "are not a certificate and its key in PEM without a password"):
        context.load_cert_chain(certificate, key, password=lambda: b"")
    if client_ca is not None:
        with readable(f"SERVING_TLS_CLIENT_CA={client_ca}", "is not a certificate in PEM"):
            context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _tokens(file: Path) -> tuple[bytes, ...]:
    with readable(f"SERVING_TOKEN_FILE={file}", "can't be read"):
        tokens = tuple(line.strip() for line in file.read_bytes().splitlines() if line.strip())
    if not tokens or not all(map(_TOKEN.fullmatch, tokens)):
        raise SettingsError(
            f"SERVING_TOKEN_FILE={file}: must have one token a line, "
            "each of at least 16 letters, digits and -._~+/= characters."
        )
    return tokens


@contextlib.contextmanager
def readable(names: str, fault: str) -> Iterator[None]:
    """Turn a failure to read a file into one sentence."""
    try:
        yield
    except ssl.SSLError:
        raise SettingsError(f"{names}: {fault}.") from None
    except OSError as error:
        raise SettingsError(f"{names}: can't be read ({error.strerror}).") from None
