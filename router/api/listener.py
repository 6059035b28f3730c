"""The data listener: accepts connections and leaves without loss. Owns the listening socket and the connections."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from uvicorn import Config
from uvicorn.server import ServerState

from router.api.asgi import data_app
from router.api.cycle import DataPlane
from router.api.http import KEEP_ALIVE_S, InferProtocol, protocol_class

BACKLOG = 2048
POLL_S = 0.02
SWEEP_S = 5.0


class Listener:
    """One HTTP listener on the current event loop."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._state = ServerState()
        self._config = Config(
            data_app(plane),
            http=protocol_class(plane),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=int(KEEP_ALIVE_S),
        )
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen, sharing the port with other router replicas of the node. Returns the address."""
        self._config.load()
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            factory = self._config.http_protocol_class
            self._server = await asyncio.get_running_loop().create_server(
                lambda: factory(config=self._config, server_state=self._state, app_state={}),  # type: ignore[call-arg]
                sock=sock,
                backlog=BACKLOG,
            )
        except OSError:
            sock.close()
            raise
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_forever())
        address = self._server.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    @property
    def is_open(self) -> bool:
        """Whether new connections are accepted."""
        return self._server is not None and self._server.is_serving()

    async def leave(self, accept_s: float, total_s: float) -> None:
        """Say so, go on accepting for `accept_s`, stop accepting, and wait for the rest until `total_s` in all.

        Every answer closes its connection from now on. Connections that stay idle are closed at the end.
        """
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        self._plane.leaving = True
        await asyncio.sleep(accept_s)
        if self._server is not None:
            self._server.close()
        while (self._busy() or loop.time() < started_s + 2 * accept_s) and loop.time() < started_s + total_s:
            if not self._state.connections:
                break
            await asyncio.sleep(POLL_S)
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in self._connections():
            connection.shutdown()
        await asyncio.sleep(0)

    async def _sweep_forever(self) -> None:
        """Close what has been idle for too long, or does not get its request sent."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = loop.time()
            for connection in self._connections():
                if connection.is_overdue(now_s):
                    connection.transport.abort()

    def _connections(self) -> list[InferProtocol]:
        return [cast(InferProtocol, connection) for connection in self._state.connections]

    def _busy(self) -> bool:
        return any(not connection.is_idle() for connection in self._connections())
