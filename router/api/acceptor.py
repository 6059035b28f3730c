"""The listening socket of one listener: accepts connections, in TLS where there is a certificate, and sweeps them.

The sweep ends what takes too long, and takes up a certificate whose files have changed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from router.api.plane import Checked, Gate, log
from router.api.tls import Certificate, TlsServer

BACKLOG = 2048
MAX_SWEEP_S = 1.0
SWEEPS_PER_TIMEOUT = 8
"""By how little a timeout may be overdrawn: an eighth of the shortest, or a second."""
SLICE = 500
"""Connections looked at in one turn of the loop, in about 0.1 ms."""


class Acceptor:
    """One per listener."""

    def __init__(self, gate: Gate[Any], connection: Callable[[], asyncio.Protocol], application_protocol: str) -> None:
        """`application_protocol` is what TLS is told: "h2", or "http/1.1"."""
        self._gate = gate
        self._connection = connection
        self._application_protocol = application_protocol
        self._server: asyncio.Server | TlsServer | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._certificate: Certificate | None = None

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen, sharing the port with other router replicas of the node. Returns the address.

        Raises OSError and ssl.SSLError where the address or the certificate cannot be used.
        """
        gate, loop = self._gate, asyncio.get_running_loop()
        if gate.http.certificate:
            self._certificate = Certificate(gate.http, self._application_protocol)
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            if self._certificate is None:
                self._server = await loop.create_server(self._connection, sock=sock, backlog=BACKLOG)
            else:
                sock.listen(BACKLOG)
                self._server = TlsServer(gate, self._connection, self._certificate, sock)
        except OSError:
            sock.close()
            raise
        self._sweeper = loop.create_task(self._sweep_forever())
        address = sock.getsockname()
        return str(address[0]), int(address[1])

    @property
    def is_open(self) -> bool:
        """Whether new connections are accepted."""
        return self._server is not None and self._server.is_serving()

    def close(self) -> None:
        """Accept no more; the sweep goes on."""
        if self._server is not None:
            self._server.close()

    def stop(self) -> None:
        """End the sweep, and handshakes that are still under way."""
        if isinstance(self._server, TlsServer):
            self._server.stop()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _check(self, connection: Checked, now_s: float) -> None:
        try:
            connection.check(now_s)
        except Exception:
            log.exception("a connection cannot be looked at")

    async def _sweep_forever(self) -> None:
        """A slice of the connections a turn, so that ten thousand hold nobody up."""
        http, loop = self._gate.http, asyncio.get_running_loop()
        shortest_s = min(http.head_timeout_s, http.body_timeout_s, http.idle_timeout_s)
        period_s = min(MAX_SWEEP_S, shortest_s / SWEEPS_PER_TIMEOUT)
        while True:
            await asyncio.sleep(period_s)
            try:
                connections = list(self._gate.connections)
                for start in range(0, len(connections), SLICE):
                    for connection in connections[start : start + SLICE]:
                        self._check(connection, loop.time())
                    await asyncio.sleep(0)
                if self._certificate is not None:
                    await self._certificate.renew()
            except Exception:
                log.exception("the sweep of the connections has failed and is tried again")
