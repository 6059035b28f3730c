"""TLS of the gRPC listener: the data listener's files, taken up anew when they change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import grpc

from router.config.load import tls_context, tls_stamp
from router.config.settings import HttpSettings

log = logging.getLogger("pointsman.http")


class GrpcCertificate:
    """What the listener presents. Connections that have one keep theirs."""

    def __init__(self, http: HttpSettings) -> None:
        """Raises OSError and ssl.SSLError."""
        self._http = http
        self._stamp = tls_stamp(self._http)
        self.credentials = grpc.dynamic_ssl_server_credentials(self._read(), self._renewed)

    def _renewed(self) -> Any:
        """What the files hold now, None where that is nothing new. A pair that does not fit is told once.

        gRPC asks on a thread of its own before every handshake.
        """
        try:
            if (stamp := tls_stamp(self._http)) == self._stamp:
                return None
            self._stamp = stamp
            renewed = self._read()
            if tls_stamp(self._http) != stamp:  # written to meanwhile: the next handshake looks again
                self._stamp = ()
                return None
        except (OSError, ssl.SSLError) as error:
            log.error("gRPC: the new certificate cannot be used, the old one stays in force: %s", error)
            return None
        log.info("gRPC: a new certificate is in force")
        return renewed

    def _read(self) -> Any:
        tls_context(self._http)  # gRPC takes any bytes, and refuses connections later
        key, certificate = Path(self._http.key).read_bytes(), Path(self._http.certificate).read_bytes()
        return grpc.ssl_server_certificate_configuration([(key, certificate)])
