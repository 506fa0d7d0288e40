"""Make certificates for development, in secrets/: `make certificates`.

An authority, the server's certificate and one for a client, signed by it, with OpenSSL. Files that exist stay. Whoever
has the authority's key can let itself in, so this is for development: in production, your own authority signs.
"""

from __future__ import annotations

import ipaddress
import shutil
import socket
import subprocess
import sys
from pathlib import Path

FOLDER = Path("secrets")
FILES = {
    # The server's container sees the folder tls/ and nothing else.
    "authority.pem": "tls/authority.pem",
    "server.pem": "tls/server.pem",
    "server-key.pem": "tls/server-key.pem",
    "client.pem": "client.pem",
    "client-key.pem": "client-key.pem",
    "authority-key.pem": "authority-key.pem",
}
LOOPBACK = (ipaddress.IPv4Address(socket.INADDR_LOOPBACK), ipaddress.IPv6Address(1))
SERVER_NAMES = ",".join(["DNS:server", "DNS:localhost", *(f"IP:{address}" for address in LOOPBACK)])
CLIENT_NAMES = "DNS:client"

_DAYS = "365"
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_TIMEOUT_S = 60.0


class CertificateError(Exception):
    """The certificates can't be made; the text is one sentence."""


def main() -> int:
    """Make what is missing; return the exit code."""
    try:
        made = make(FOLDER)
    except CertificateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not made:
        print(f"{FOLDER} has its certificates already; nothing was changed. Remove them to make new ones.")
        return 0
    print(f"made for development, valid for {_DAYS} days: {', '.join(str(FOLDER / name) for name in made)}")
    print("serve with them: set COMPOSE_FILE=compose.yaml:compose/tls.yaml in .env, then `make up`")
    return 0


def make(folder: Path) -> list[str]:
    """Make an authority and two certificates in a folder, unless it has them; return the names of the files.

    :raises CertificateError: OpenSSL is missing or fails, or the folder has only some of the files
    """
    there = [place for place in FILES.values() if (folder / place).exists()]
    if len(there) == len(FILES):
        return []
    if there:
        raise CertificateError(
            f"{folder} has {', '.join(there)} but not the rest; nothing is overwritten: move these files away first."
        )
    if shutil.which("openssl") is None:
        raise CertificateError("the command `openssl` is missing; install OpenSSL, or put your own files there.")
    draft = folder / "new"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        _make_authority(draft)
        _sign(draft, "server", SERVER_NAMES, "serverAuth")
        _sign(draft, "client", CLIENT_NAMES, "clientAuth")
        (folder / "tls").mkdir(mode=0o755, exist_ok=True)
        for name, place in FILES.items():
            # Readable in the container, private on the host, since secrets/ is 0700.
            (draft / name).chmod(0o444 if place.startswith("tls/") else 0o400)
            (draft / name).rename(folder / place)
    except OSError as error:
        raise CertificateError(f"{error.filename}: can't be written ({error.strerror}).") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return list(FILES.values())


def _make_authority(folder: Path) -> None:
    config = folder / "authority.cnf"
    config.write_text(
        "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = ca\n[name]\n"
        "CN = for development only\n[ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\n"
        "subjectKeyIdentifier = hash\n",
        encoding="ascii",
    )
    files = ("-keyout", "authority-key.pem", "-out", "authority.pem")
    _openssl(folder, "req", "-x509", *_CURVE, "-days", _DAYS, "-config", config.name, *files)


def _sign(folder: Path, name: str, names: str, usage: str) -> None:
    config = folder / f"{name}.cnf"
    config.write_text(
        f"[req]\nprompt = no\ndistinguished_name = name\n[name]\nCN = {name}\n[leaf]\nsubjectAltName = {names}\n"
        f"basicConstraints = CA:FALSE\nextendedKeyUsage = {usage}\n",
        encoding="ascii",
    )
    _openssl(
        folder, "req", "-new", *_CURVE, "-config", config.name, "-keyout", f"{name}-key.pem", "-out", f"{name}.csr"
    )
    signer = ("-CA", "authority.pem", "-CAkey", "authority-key.pem", "-CAcreateserial")
    extensions = ("-extfile", config.name, "-extensions", "leaf")
    _openssl(folder, "x509", "-req", "-days", _DAYS, "-in", f"{name}.csr", *signer, *extensions, "-out", f"{name}.pem")


def _openssl(folder: Path, *words: str) -> None:
    done = subprocess.run(
        ["openssl", *words], cwd=folder, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise CertificateError(f"`openssl {words[0]}` failed: {reason[-1] if reason else done.returncode}.")


if __name__ == "__main__":
    sys.exit(main())
