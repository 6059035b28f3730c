"""What both ends of the data stream share: handshake, frames, fragments, liveness.

Owns one TCP connection. Knows nothing of pools, policy or models; the two ends are link_router.py and link_replica.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from router.protocol.framing import FrameReader, LinkError, frame
from router.protocol.handshake import ClientHandshake, HandshakeError, ServerHandshake
from router.protocol.link import FRAGMENT_BYTES, Message, Ping, Pong

HANDSHAKE_TIMEOUT_S = 2.0
PING_PERIOD_S = 0.5
PING_TIMEOUT_S = 3.0
"""A peer that sends nothing for this long, though asked every PING_PERIOD_S, is dropped."""
MAX_MESSAGE_BYTES = 96 * 1024 * 1024
MAX_OPEN_FRAGMENTS = 64


class StreamEnd(asyncio.Protocol):
    """What both ends share. `on_message` and `on_closed` belong to the subclass; `on_closed` comes exactly once."""

    def __init__(self, handshake: ClientHandshake | ServerHandshake, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handshake: ClientHandshake | ServerHandshake | None = handshake
        self._reader = FrameReader(MAX_MESSAGE_BYTES, MAX_OPEN_FRAGMENTS)
        self._transport: asyncio.Transport | None = None
        self._bulk: deque[bytes] = deque()
        self._paused = False
        self._silent_periods = 0
        self._nonce = 0
        self._timer: asyncio.TimerHandle | None = None
        self._why = ""

    # what a subclass does
    def on_ready(self) -> None:
        """The peer proved the key."""

    def on_message(self, message: Message) -> None:
        """One message of the peer, after the handshake."""

    def on_closed(self, why: str) -> None:
        """The connection is gone."""

    def on_writable(self) -> None:
        """The peer reads again."""

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake and its timer."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT_S, self.close, "handshake timed out")
        if isinstance(self._handshake, ClientHandshake):
            self._transport.write(self._handshake.start())

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer; anything that is not the protocol closes the connection."""
        self._silent_periods = 0
        try:
            if self._handshake is not None:
                data = self._shake(self._handshake, data)
                if not data:
                    return
            for message in self._reader.feed(data):
                self._take(message)
        except (HandshakeError, LinkError) as error:
            self.close(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the listener, once."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        self._bulk.clear()
        self.on_closed(self._why or (str(exc) if exc else "closed by peer"))

    def pause_writing(self) -> None:
        """The peer reads too slowly: hold back what is not yet written."""
        self._paused = True

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._paused = False
        self._pump_bulk()
        self.on_writable()

    # for subclasses and owners
    @property
    def is_open(self) -> bool:
        """Handshake done and not closed."""
        return self._transport is not None and self._handshake is None and not self._transport.is_closing()

    def send(self, message: Message, nbytes: int = 0) -> None:
        """Write one message. One of more than FRAGMENT_BYTES leaves piece by piece between others."""
        if self._transport is None or self._transport.is_closing():
            return
        pieces = frame(message)
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        elif nbytes <= FRAGMENT_BYTES:
            self._transport.writelines(pieces)
        else:
            self._bulk.extend(pieces)
            self._pump_bulk()

    def close(self, why: str) -> None:
        """Drop the connection now."""
        if self._transport is not None:
            self._why = self._why or why
            self._transport.abort()

    def ping(self) -> None:
        """Ask for a sign of life; call it every PING_PERIOD_S.

        Periods are counted, not seconds, so that a pause of this process is not taken for one of the peer's.
        """
        if not self.is_open:
            return
        self._silent_periods += 1
        if self._silent_periods * PING_PERIOD_S >= PING_TIMEOUT_S:
            self.close(f"no sign of life for {PING_TIMEOUT_S:g} s")
            return
        self._nonce += 1
        self.send(Ping(self._nonce))

    def _shake(self, handshake: ClientHandshake | ServerHandshake, data: bytes) -> bytes:
        reply, done, leftover = handshake.receive(data)
        if reply and self._transport is not None:
            self._transport.write(reply)
        if done:
            self._handshake = None
            if self._timer is not None:
                self._timer.cancel()
            self.on_ready()
        return leftover

    def _take(self, message: Message) -> None:
        if isinstance(message, Ping):
            self.send(Pong(message.nonce))
        elif not isinstance(message, Pong):  # that it came was the sign of life
            self.on_message(message)

    def _pump_bulk(self) -> None:
        if self._bulk and not self._paused and self._transport is not None:
            self._transport.write(self._bulk.popleft())
            if self._bulk:
                # One piece a loop turn: frames of small requests pass in between.
                self._loop.call_soon(self._pump_bulk)
