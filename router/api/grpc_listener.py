"""The gRPC listener: accepts connections and leaves without loss. Owns its connections; the bounds are the plane's."""

from __future__ import annotations

import asyncio

from router.api.acceptor import Acceptor
from router.api.grpc_servicer import CALLS_PER_CONNECTION, Servicer
from router.api.h2_connection import H2Connection
from router.api.plane import DataPlane, Gate
from router.config.settings import GrpcSettings

POLL_S = 0.02


class GrpcListener:
    """One gRPC listener on the current event loop."""

    def __init__(self, plane: DataPlane) -> None:
        """The plane is the data listener's: its TLS files and bounds hold here too."""
        self._plane = plane
        self.servicer = Servicer(plane)
        self.gate: Gate[H2Connection] = Gate(plane.handler, plane.request_ids, plane.http)
        self._acceptor = Acceptor(self.gate, self._connection, "h2")

    async def open(self, grpc_settings: GrpcSettings) -> tuple[str, int]:
        """See Acceptor.open."""
        return await self._acceptor.open(grpc_settings.host, grpc_settings.port)

    @property
    def is_open(self) -> bool:
        """Whether new connections are accepted."""
        return self._acceptor.is_open

    async def leave(self, accept_s: float, total_s: float) -> None:
        """Go on accepting for `accept_s`, then take nothing new, and wait for the rest until `total_s` in all.

        Health and readiness say so from the start. Clients are told to go away, and what they have sent by the time
        they know is answered; streams end once what came on them is answered.
        """
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        self._plane.leaving = True
        await asyncio.sleep(accept_s)
        self._acceptor.close()
        gate = self.gate
        while (gate.connections or gate.handshakes or gate.lingerers.count) and loop.time() < started_s + total_s:
            for stream in list(self.servicer.streams):
                stream.stop_reading()
            for connection in list(self.gate.connections):
                connection.go_away()
                connection.leave_if_done()
            await asyncio.sleep(POLL_S)
        self._acceptor.stop()
        for connection in list(self.gate.connections):
            connection.abort()
        self.gate.lingerers.close()
        self.servicer.close()
        await asyncio.sleep(0)

    def _connection(self) -> H2Connection:
        return H2Connection(
            self.gate, self._plane, self.servicer.opened, self.servicer.turned_away, CALLS_PER_CONNECTION
        )
