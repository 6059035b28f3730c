"""The data listener: accepts connections, in TLS where it has a certificate, and leaves without loss.

Owns the listening socket and the sweep that ends what takes too long.
"""

from __future__ import annotations

import asyncio
import socket

from router.api.asgi import data_app
from router.api.http import InferProtocol
from router.api.plane import DataPlane, log
from router.api.tls import Certificate, TlsServer

BACKLOG = 2048
POLL_S = 0.02
MAX_SWEEP_S = 1.0
SWEEPS_PER_TIMEOUT = 8
"""By how little a timeout may be overdrawn: an eighth of the shortest, or a second."""
SLICE = 500
"""Connections looked at in one turn of the loop, in about 0.1 ms."""


class Listener:
    """One HTTP listener on the current event loop."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        plane.app = data_app(plane)
        self._server: asyncio.Server | TlsServer | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._certificate: Certificate | None = None

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen, sharing the port with other router replicas of the node. Returns the address.

        Raises OSError and ssl.SSLError where the address or the certificate cannot be used.
        """
        plane, loop = self._plane, asyncio.get_running_loop()
        if plane.http.certificate:
            self._certificate = Certificate(plane.http)
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            if self._certificate is None:
                self._server = await loop.create_server(lambda: InferProtocol(plane), sock=sock, backlog=BACKLOG)
            else:
                sock.listen(BACKLOG)
                self._server = TlsServer(plane, self._certificate, sock)
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

    async def leave(self, accept_s: float, total_s: float) -> None:
        """Say so, go on accepting for `accept_s`, stop accepting, and wait for the rest until `total_s` in all.

        Every answer closes its connection from now on. Connections that stay idle are closed at the end.
        """
        loop, plane = asyncio.get_running_loop(), self._plane
        started_s = loop.time()
        plane.leaving = True
        await asyncio.sleep(accept_s)
        if self._server is not None:
            self._server.close()
        while (self._busy() or loop.time() < started_s + 2 * accept_s) and loop.time() < started_s + total_s:
            if not plane.connections:
                break
            await asyncio.sleep(POLL_S)
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(plane.connections):
            connection.shutdown()
        plane.close()
        await asyncio.sleep(0)

    async def _sweep_forever(self) -> None:
        """End what takes too long: a slice of the connections a turn, so that ten thousand hold nobody up."""
        http, loop = self._plane.http, asyncio.get_running_loop()
        shortest_s = min(http.head_timeout_s, http.body_timeout_s, http.idle_timeout_s)
        period_s = min(MAX_SWEEP_S, shortest_s / SWEEPS_PER_TIMEOUT)
        while True:
            await asyncio.sleep(period_s)
            try:
                connections = list(self._plane.connections)
                for start in range(0, len(connections), SLICE):
                    for connection in connections[start : start + SLICE]:
                        connection.check(loop.time())
                    await asyncio.sleep(0)
                if self._certificate is not None:
                    await self._certificate.renew()
            except Exception:
                log.exception("the sweep of the connections has failed and is tried again")

    def _busy(self) -> bool:
        return any(not connection.is_idle() for connection in self._plane.connections)
