"""Connections that are read no further: what their clients still send is thrown away, so that they see the answer.

Closing with bytes unread would reset the connection, and the client might lose the answer it was sent. All lingering
connections of a listener together get a bounded number of reads a tick, so that throwing away costs next to nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque

LINGER_S = 2.0
TICK_S = 0.01
READS_PER_TICK = 4
"""About 1 MiB, or 100 MB/s in all: some 2 % of the event loop."""
MAX_LINGERING = 512
"""Beyond that connections close at once."""


class Lingerers:
    """The lingering connections of one listener."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting: deque[_Lingerer] = deque()
        self._ticking = False

    def take(self, transport: asyncio.Transport) -> None:
        """Answered: nothing more is said on this connection, and nothing that comes is looked at."""
        if self.count >= MAX_LINGERING:
            transport.close()
            return
        self.count += 1
        loop = asyncio.get_running_loop()
        lingerer = _Lingerer(self, transport)
        transport.set_protocol(lingerer)
        if transport.can_write_eof():
            transport.write_eof()
        loop.call_later(LINGER_S, transport.abort)
        lingerer.wait()

    def close(self) -> None:
        """The listener closes: so do these."""
        while self._waiting:
            self._waiting.popleft().transport.abort()

    def wait(self, lingerer: _Lingerer) -> None:
        """To be read again in its turn."""
        self._waiting.append(lingerer)
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        for _ in range(min(READS_PER_TICK, len(self._waiting))):
            transport = self._waiting.popleft().transport
            if not transport.is_closing():
                transport.resume_reading()
        self._ticking = bool(self._waiting)
        if self._ticking:
            asyncio.get_running_loop().call_later(TICK_S, self._tick)


class _Lingerer(asyncio.Protocol):
    """One of them."""

    def __init__(self, all_of_them: Lingerers, transport: asyncio.Transport) -> None:
        self._all = all_of_them
        self.transport = transport

    def wait(self) -> None:
        """Read nothing until it is this one's turn."""
        if not self.transport.is_closing():
            self.transport.pause_reading()
            self._all.wait(self)

    def data_received(self, data: bytes) -> None:
        """Thrown away."""
        self.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone."""
        self._all.count -= 1
