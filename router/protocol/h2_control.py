"""HTTP/2's control frames, and what a client may make us do for nothing.

Frames that bring no request further and resets draw on budgets that time (`tick`) and real work refill; who has spent
one is sent away with ENHANCE_YOUR_CALM.
"""

from __future__ import annotations

from typing import Protocol

from router.protocol import h2_frames as h2
from router.protocol.h2_fields import Block
from router.protocol.h2_frames import H2Error, frame
from router.protocol.h2_sending import MAX_FRAME_BYTES, Sending, Stream

IDLE_FRAMES, IDLE_FRAMES_PER_S = 10_000, 1_000
"""Frames that bring nothing further: a client may send so many at once, and so many a second for ever."""
SETTINGS_COST = 100
"""Such frames that one of SETTINGS counts for: it may move the window of every stream."""
RESETS, RESETS_PER_S = 2_000, 1_000
"""Likewise streams that are reset by either side; beyond it new ones are refused, so that clients send them again."""
FAR_RESETS = 10_000
"""So far beyond it the client is told to go, and after as many again it has gone."""
MAX_SETTINGS = 64
_PAID_BACK = 2
_ID = 2**31 - 1
_SHAPES = {h2.PRIORITY: (True, 5, 5), h2.PING: (False, 8, 8), h2.GOAWAY: (False, 8, MAX_FRAME_BYTES)}
"""Whether it belongs to a stream, its least and largest size."""


class ConnectionOwner(Protocol):
    """Who serves the streams."""

    def opened(self, stream: Stream, block: Block) -> None:
        """A request has begun: give the stream its owner. Its body follows by `data`, at least once."""

    def refused(self, block: Block) -> None:
        """One was turned away, being one too many on this connection."""

    def overdone(self) -> None:
        """The client has reset far too many streams: it is to go, once those under way are answered."""

    def ponged(self, payload: bytes) -> None:
        """A ping of ours with this payload was answered, or the client says so."""


class Control(Sending):
    """What of a connection is not its requests."""

    def __init__(self, owner: ConnectionOwner, max_streams: int) -> None:
        super().__init__(max_streams)
        self.last_id = 0
        """The highest stream that the client has opened."""
        self.peer_leaves = False
        self._owner = owner
        self._settled = False
        self._idle_frames, self._resets = IDLE_FRAMES, RESETS

    def tick(self, elapsed_s: float) -> None:
        """So much time has passed."""
        self._idle_frames = min(IDLE_FRAMES, self._idle_frames + int(IDLE_FRAMES_PER_S * elapsed_s))
        self._resets = min(RESETS, self._resets + int(RESETS_PER_S * elapsed_s))

    def _window_update(self, number: int, body: bytes) -> None:
        if len(body) != 4:
            raise H2Error(h2.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        if self.windows_paid:
            self.windows_paid = min(self.windows_paid, IDLE_FRAMES) - 1
        else:
            self._spend()
        more = int.from_bytes(body, "big") & _ID
        stream = self.streams.get(number)
        if stream is None and number:
            self._never_opened(number)
            return
        if not more or not self._more_window(stream, more):
            code = h2.FLOW_CONTROL_ERROR if more else h2.PROTOCOL_ERROR
            if stream is None:
                raise H2Error(code, "a window that cannot be")
            self._break(stream, code)

    def _settings(self, flags: int, number: int, body: bytes) -> None:
        if number:
            raise H2Error(h2.PROTOCOL_ERROR, "SETTINGS of a stream")
        if len(body) % 6 or (flags & h2.ACK and body):
            raise H2Error(h2.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        self._spend(SETTINGS_COST)
        if flags & h2.ACK:
            return
        self._settled = True
        if len(body) > 6 * MAX_SETTINGS:
            raise H2Error(h2.ENHANCE_YOUR_CALM, "more settings than there are")
        at = range(0, len(body), 6)
        for key, value in {body[i : i + 2]: body[i + 2 : i + 6] for i in at}.items():
            self._set(int.from_bytes(key, "big"), int.from_bytes(value, "big"))
        self.out.append(frame(h2.SETTINGS, h2.ACK, 0))

    def _set(self, key: int, value: int) -> None:
        if key == h2.INITIAL_WINDOW_SIZE:
            if value > h2.LARGEST_WINDOW or not self._set_peer_window(value):
                raise H2Error(h2.FLOW_CONTROL_ERROR, "a window that cannot be")
        elif key == h2.MAX_FRAME_SIZE:
            if not h2.SMALLEST_FRAME <= value < 1 << 24:
                raise H2Error(h2.PROTOCOL_ERROR, "a frame size that cannot be")
            self._frame_bytes = min(value, MAX_FRAME_BYTES)
        elif key == h2.ENABLE_PUSH and value > 1:
            raise H2Error(h2.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        elif key == h2.HEADER_TABLE_SIZE:
            self._resize_table()

    def _rst_stream(self, number: int, body: bytes) -> None:
        if len(body) != 4:
            raise H2Error(h2.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        self._spend_reset()
        stream = self.streams.get(number)
        if stream is None:
            self._never_opened(number)
            self.early.pop(number, None)
            return
        stream.ended = True
        owner = stream.owner
        self.forget(stream)
        owner.gone()

    def _other(self, kind: int, flags: int, number: int, body: bytes) -> None:
        self._spend()
        if kind == h2.PUSH_PROMISE:
            raise H2Error(h2.PROTOCOL_ERROR, "PUSH_PROMISE from a client")
        of_stream, least, most = _SHAPES.get(kind, (bool(number), 0, MAX_FRAME_BYTES))
        if of_stream != bool(number):
            raise H2Error(h2.PROTOCOL_ERROR, "a frame on a stream that it may not be on")
        if not least <= len(body) <= most:
            raise H2Error(h2.FRAME_SIZE_ERROR, "a frame of a wrong size")
        if kind == h2.GOAWAY:
            self.peer_leaves = True
        elif kind == h2.PING and flags & h2.ACK:
            self._owner.ponged(body)
        elif kind == h2.PING:
            self.out.append(frame(h2.PING, h2.ACK, 0, body))

    def _never_opened(self, number: int) -> None:
        if number == 0 or number > self.last_id or number % 2 == 0:
            raise H2Error(h2.PROTOCOL_ERROR, "a frame for a stream that was never opened")

    def _break(self, stream: Stream, code: int) -> None:
        """The client has broken a rule that holds for one stream. Counts as if it had reset the stream itself."""
        self._spend_reset()
        owner = stream.owner
        self.reset(stream, code)
        owner.gone()

    def _spend(self, frames: int = 1) -> None:
        self._idle_frames -= frames
        if self._idle_frames < 0:
            raise H2Error(h2.ENHANCE_YOUR_CALM, "too many frames that bring nothing further")

    def pay_back(self) -> None:
        """Something has come that is of use: a request, a message of a stream."""
        self._idle_frames = min(IDLE_FRAMES, self._idle_frames + _PAID_BACK)

    def _spend_reset(self) -> None:
        self._resets -= 1
        if self._resets == -FAR_RESETS:
            self._owner.overdone()
        elif self._resets < -2 * FAR_RESETS:
            raise H2Error(h2.ENHANCE_YOUR_CALM, "too many resets")
