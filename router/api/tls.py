"""TLS of the data listener: handshakes within bounds, and a certificate that is taken up anew when its files change."""

from __future__ import annotations

import asyncio
import os
import ssl

from router.api.http import InferProtocol
from router.api.linger import LINGER_S
from router.api.plane import DataPlane, log
from router.config.load import tls_context
from router.config.settings import HttpSettings

_Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """What the listener presents. `context` is replaced whole: connections that have it keep theirs."""

    def __init__(self, http: HttpSettings) -> None:
        """Raises OSError and ssl.SSLError."""
        self._http = http
        self._stamp = _stamp(http)
        self.context = _context(http)

    async def renew(self) -> None:
        """Take up what the files hold now. A pair that does not fit is told once and leaves the old one in force."""
        loop = asyncio.get_running_loop()
        try:
            stamp = await loop.run_in_executor(None, _stamp, self._http)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self.context = await loop.run_in_executor(None, _context, self._http)
        except (OSError, ssl.SSLError) as error:
            log.error("the new certificate cannot be used, the old one stays in force: %s", error)
        else:
            log.info("a new certificate is in force")


def _context(http: HttpSettings) -> ssl.SSLContext:
    context = tls_context(http)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _stamp(http: HttpSettings) -> _Stamp:
    found = [os.stat(path) for path in (http.certificate, http.key)]
    return tuple((at.st_mtime_ns, at.st_ino, at.st_size) for at in found)


class TlsDoor(asyncio.Protocol):
    """A connection until its handshake is done; what comes right behind it is kept for the HTTP protocol."""

    def __init__(self, plane: DataPlane, certificate: Certificate) -> None:
        self._plane = plane
        self._certificate = certificate
        self._early = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected. One too many is not worth a handshake."""
        self._plane.handshakes += 1
        if self._plane.is_full():
            self._plane.handshakes -= 1
            self._plane.count_too_many()
            transport.abort()
            return
        transport.pause_reading()
        self._task = asyncio.get_running_loop().create_task(self._shake_hands(transport))

    def data_received(self, data: bytes) -> None:
        """Inside TLS already, and the loop has not yet told us so."""
        self._early += data

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        plane, loop = self._plane, asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                transport,
                self,
                self._certificate.context,
                server_side=True,
                ssl_handshake_timeout=plane.http.head_timeout_s,
                ssl_shutdown_timeout=LINGER_S,
            )
        except (OSError, ssl.SSLError):  # no TLS, none that both speak, gone, or too slow
            transport.abort()
            return
        finally:
            plane.handshakes -= 1
        if secured is None or secured.is_closing():
            return
        http = InferProtocol(plane)
        secured.set_protocol(http)
        http.connection_made(secured)
        if self._early:
            http.data_received(self._early)
