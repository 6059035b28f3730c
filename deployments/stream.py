"""What both ends of the data stream share: handshake, frames, large messages a piece at a time, liveness.

Owns one TCP connection. Knows nothing of pools, policy or models; the two ends are link_router.py and link_replica.py.
docs/adr/0011-large-tensors-in-place.md says how large tensors pass, and what they cost.
"""

from __future__ import annotations

import asyncio
from typing import cast

from router.protocol.fragments import FRAGMENT_HEAD_BYTES, FragmentQueue, Fragments
from router.protocol.framing import FrameReader, LinkError, frame
from router.protocol.handshake import ClientHandshake, HandshakeError, ServerHandshake
from router.protocol.link import FRAGMENT_BYTES, WINDOW_BYTES, Message, Ping, Pong, Taken

HANDSHAKE_TIMEOUT_S = 2.0
PING_PERIOD_S = 0.5
PING_TIMEOUT_S = 3.0
"""A peer that sends nothing for this long, though asked every PING_PERIOD_S, is dropped."""
MAX_MESSAGE_BYTES = 96 * 1024 * 1024
MAX_OPEN_FRAGMENTS = 64
"""Large messages on their way at the same time, each way."""
GROUP_BYTES = FRAGMENT_BYTES // 2
"""Tensor bytes of small items or answers that leave in one frame; the rest of it is for what surrounds them."""
TAKEN_BYTES = WINDOW_BYTES // 4
"""Fragments read before the peer is told, while more of them come."""
SCRATCH_BYTES = 16 * 1024
"""Read at once while a large message comes and the next bytes are not known to be its own."""


class StreamEnd(asyncio.Protocol):
    """What both ends share. `on_message` and `on_closed` belong to the subclass; `on_closed` comes exactly once."""

    def __init__(self, handshake: ClientHandshake | ServerHandshake, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handshake: ClientHandshake | ServerHandshake | None = handshake
        self._reader = FrameReader(MAX_MESSAGE_BYTES, MAX_OPEN_FRAGMENTS)
        self._transport: asyncio.Transport | None = None
        self._large = FragmentQueue(MAX_OPEN_FRAGMENTS)
        self._in_flight_bytes = 0
        """Of fragments, written and not yet known to be read."""
        self._turn_due = False
        self._paused = False
        self._reads_straight = False
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
        """The peer reads again. What is not written before this returns comes after the next piece of what is large."""

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
            self._take(self._reader.feed(data))
        except (HandshakeError, LinkError) as error:
            self.close(str(error))
        if self._reader.taken_bytes or self._reads_straight:
            self._after_fragments()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the listener, once."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        self._large.clear()
        self.on_closed(self._why or (str(exc) if exc else "closed by peer"))

    def pause_writing(self) -> None:
        """The peer reads too slowly: hold back what is not yet written."""
        self._paused = True

    def resume_writing(self) -> None:
        """The peer reads again: first what is small, then a piece of what is large even if that has filled the buffer.

        So neither keeps the other from the wire, and a small frame waits for one piece at most.
        """
        self._paused = False
        self.on_writable()
        self._write_piece()

    # for subclasses and owners
    @property
    def is_open(self) -> bool:
        """Handshake done and not closed."""
        return self._transport is not None and self._handshake is None and not self._transport.is_closing()

    def send(self, message: Message) -> None:
        """Write one message at once, copied: of about FRAGMENT_BYTES at most. Raises what msgspec's encoder does."""
        if self._transport is None or self._transport.is_closing():
            return
        frames = frame(message)
        if len(frames) == 1:
            self._transport.write(frames[0])
        else:
            self._in_flight_bytes += sum(map(len, frames)) - len(frames) * FRAGMENT_HEAD_BYTES
            self._transport.writelines(frames)

    def send_large(self, message: Message, key: int) -> None:
        """Send one message piece by piece, between others and in turn with other large ones, without copying tensors.

        Their memory must not change before all of it is written. `key` is for drop(). Raises MessageTooLarge, and what
        msgspec's encoder does; then nothing of it is sent.
        """
        if self.is_open:
            self._large.add(Fragments(message, MAX_MESSAGE_BYTES, key))
            self._write_turn()

    def drop(self, key: int) -> bool:
        """Take back a large message. True: the peer will never have all of it; False: it has left, or there is none."""
        if not self._large or (farewell := self._large.drop(key)) is None:
            return False
        if farewell and self._transport is not None:
            self._transport.write(farewell)
        return True

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

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, Ping):
                if not self._paused:  # what fills the buffer is a sign of life too, and pings must not add to it
                    self.send(Pong(message.nonce))
            elif isinstance(message, Taken):
                self._taken(message.nbytes)
            elif not isinstance(message, Pong):  # that it came was the sign of life
                self.on_message(message)

    def _taken(self, nbytes: int) -> None:
        self._in_flight_bytes -= nbytes
        if nbytes <= 0 or self._in_flight_bytes < 0:
            raise LinkError(f"{nbytes} bytes are said to be read that were not sent")
        self._write_turn()

    def _write_turn(self) -> None:
        """A piece, unless the next one has its time already or the transport has enough."""
        if not (self._paused or self._turn_due):
            self._write_piece()

    def _write_due(self) -> None:
        self._turn_due = False
        self._write_turn()

    def _write_piece(self) -> None:
        """One piece; the next in the next loop turn, so that small frames pass between, or once there is room."""
        if not self._large or self._in_flight_bytes >= WINDOW_BYTES or self._transport is None:
            return
        before = self._large.nbytes
        self._transport.writelines(self._large.next())
        self._in_flight_bytes += before - self._large.nbytes
        if self._large and not (self._paused or self._turn_due):
            self._turn_due = True
            self._loop.call_soon(self._write_due)

    # while a large message comes
    def _after_fragments(self) -> None:
        """Let more of them come, straight to where they belong; small messages alone are read faster without."""
        reader = self._reader
        gathering = reader.gathering
        if reader.taken_bytes >= TAKEN_BYTES or not gathering:
            taken, reader.taken_bytes = reader.taken_bytes, 0
            if taken:
                self.send(Taken(taken))
        if gathering is not self._reads_straight and self.is_open and self._transport is not None:
            self._reads_straight = gathering
            self._transport.set_protocol(_Straight(self) if gathering else self)

    def space(self) -> memoryview | None:
        """Where the next bytes belong, if that is known."""
        return self._reader.space()

    def space_filled(self, nbytes: int) -> None:
        """So many bytes have been read to there."""
        self._silent_periods = 0
        try:
            self._take(self._reader.wrote(nbytes))
        except LinkError as error:
            self.close(str(error))
        self._after_fragments()


class _Straight(asyncio.BufferedProtocol):
    """Reads for a stream while a large message comes: its bytes go from the socket to where they stay."""

    def __init__(self, end: StreamEnd) -> None:
        self._end = end
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._direct = False
        self.connection_lost = end.connection_lost  # type: ignore[method-assign]
        self.pause_writing = end.pause_writing  # type: ignore[method-assign]
        self.resume_writing = end.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        """The rest of the piece that comes, or else the scratch."""
        space = self._end.space()
        self._direct = space is not None
        return self._scratch if space is None else space

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        if self._direct:
            self._end.space_filled(nbytes)
        else:
            self._end.data_received(bytes(self._scratch[:nbytes]))
