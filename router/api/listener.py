"""The data listener: opens, and leaves without loss."""

from __future__ import annotations

import asyncio

from router.api.acceptor import Acceptor
from router.api.asgi import data_app
from router.api.http import InferProtocol
from router.api.plane import DataPlane

POLL_S = 0.02


class Listener:
    """One HTTP listener on the current event loop."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        plane.app = data_app(plane)
        self._acceptor = Acceptor(plane, lambda: InferProtocol(plane), "http/1.1")

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """See Acceptor.open."""
        return await self._acceptor.open(host, port)

    @property
    def is_open(self) -> bool:
        """Whether new connections are accepted."""
        return self._acceptor.is_open

    async def leave(self, accept_s: float, total_s: float) -> None:
        """Say so, go on accepting for `accept_s`, stop accepting, and wait for the rest until `total_s` in all.

        Every answer closes its connection from now on. Connections that stay idle are closed at the end.
        """
        loop, plane = asyncio.get_running_loop(), self._plane
        started_s = loop.time()
        plane.leaving = True
        await asyncio.sleep(accept_s)
        self._acceptor.close()
        while (self._busy() or loop.time() < started_s + 2 * accept_s) and loop.time() < started_s + total_s:
            if not plane.connections:
                break
            await asyncio.sleep(POLL_S)
        self._acceptor.stop()
        for connection in list(plane.connections):
            connection.shutdown()
        plane.close()
        await asyncio.sleep(0)

    def _busy(self) -> bool:
        return any(not connection.is_idle() for connection in self._plane.connections)
