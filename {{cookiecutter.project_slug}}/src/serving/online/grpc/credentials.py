"""The server's certificate for gRPC: read at start, and again when its files change."""

from __future__ import annotations

from pathlib import Path

import grpc

from serving.online.credentials import Watched, readable, tls_context
from serving.online.settings import Settings


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return the credentials to listen with, None without TLS; every new connection gets the current certificate.

    :raises SettingsError: a file can't be used
    """
    certificate, key, client_ca = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    if certificate is None or key is None:
        return None
    files = (certificate, key) if client_ca is None else (certificate, key, client_ca)
    watched = Watched(files, lambda: _configuration(certificate, key, client_ca))

    def current() -> grpc.ServerCertificateConfiguration | None:
        return watched.content if watched.changed() else None  # None: as before

    return grpc.dynamic_ssl_server_credentials(
        watched.content,
        current,  # type: ignore[arg-type]  # the stubs know no None
        require_client_authentication=client_ca is not None,
    )


def _configuration(certificate: Path, key: Path, client_ca: Path | None) -> grpc.ServerCertificateConfiguration:
    # For a wrong certificate gRPC reports only that it can't listen.
    tls_context(certificate, key, client_ca)
    with readable(f"SERVING_TLS_CERTIFICATE={certificate}", "can't be read"):
        chain = (key.read_bytes(), certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([chain], None if client_ca is None else client_ca.read_bytes())
