"""TLS of the data listeners: handshakes within bounds, a certificate that is taken up anew when its files change."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

from router.api.linger import LINGER_S
from router.api.plane import Gate, log
from router.config.load import tls_context, tls_stamp
from router.config.settings import HttpSettings

ACCEPTS_PER_TURN = 32
"""A handshake takes the loop about a millisecond: others have their turn between."""
ACCEPT_PAUSE_S = 1.0


class Certificate:
    """What the listener presents. `context` is replaced whole: connections that have it keep theirs."""

    def __init__(self, http: HttpSettings, application_protocol: str) -> None:
        """Raises OSError and ssl.SSLError. `application_protocol`: what clients are to speak inside."""
        self._http = http
        self._application_protocol = application_protocol
        self._stamp = tls_stamp(http)
        self.context = self._context()

    async def renew(self) -> None:
        """Take up what the files hold now. A pair that does not fit is told once and leaves the old one in force."""
        loop = asyncio.get_running_loop()
        try:
            stamp = await loop.run_in_executor(None, tls_stamp, self._http)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self.context = await loop.run_in_executor(None, self._context)
        except (OSError, ssl.SSLError) as error:
            log.error("the new certificate cannot be used, the old one stays in force: %s", error)
        else:
            log.info("a new certificate is in force")

    def _context(self) -> ssl.SSLContext:
        context = tls_context(self._http)
        context.set_alpn_protocols([self._application_protocol])
        return context


class TlsServer:
    """Accepts connections and shakes hands with them. Has what the listener uses of an asyncio.Server.

    asyncio's own server tells nobody of a handshake that fails, so that those under way could not be counted, and one
    connection too many is not worth a handshake.
    """

    def __init__(
        self,
        gate: Gate[Any],
        connection: Callable[[], asyncio.Protocol],
        certificate: Certificate,
        sock: socket.socket,
    ) -> None:
        """`sock` is bound and listening."""
        self._gate = gate
        self._connection = connection
        self._certificate = certificate
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        sock.setblocking(False)
        self._listen()

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        return self._sock.fileno() >= 0

    def close(self) -> None:
        """Accept no more; handshakes under way go on."""
        if self.is_serving():
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def stop(self) -> None:
        """End the handshakes that are under way."""
        for task in self._tasks:
            task.cancel()

    def _listen(self) -> None:
        if self.is_serving():
            self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of file descriptors or memory: the rest waits in the kernel meanwhile
                log.error("connections cannot be accepted: %s", error)
                self._loop.remove_reader(self._sock)
                self._loop.call_later(ACCEPT_PAUSE_S, self._listen)
                return
            self._gate.handshakes += 1
            if self._gate.is_full():
                self._gate.handshakes -= 1
                self._gate.count_too_many()
                sock.close()
                continue
            task = self._loop.create_task(self._shake_hands(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _shake_hands(self, sock: socket.socket) -> None:
        gate = self._gate
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                self._connection,
                sock,
                ssl=self._certificate.context,
                ssl_handshake_timeout=gate.http.head_timeout_s,
                ssl_shutdown_timeout=LINGER_S,
            )
        except (OSError, ssl.SSLError) as error:  # no TLS, none that both speak, gone, or too slow
            log.debug("no TLS connection: %r", error)
        finally:
            gate.handshakes -= 1
