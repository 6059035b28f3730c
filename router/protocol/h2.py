"""One HTTP/2 connection of a server (RFC 9113), without I/O or clock: bytes in, calls to its owner, bytes out.

Reads frames and puts requests together. What is not a request is h2_control.py, what we send h2_sending.py.
"""

from __future__ import annotations

from router.protocol import h2_frames as h2
from router.protocol.h2_control import ConnectionOwner, Control
from router.protocol.h2_fields import MAX_BLOCK_BYTES, FieldReader
from router.protocol.h2_frames import H2Error, window_update
from router.protocol.h2_sending import CONNECTION_WINDOW, MAX_FRAME_BYTES, SMALL_BYTES, STREAM_WINDOW, Stream

MAX_CONTINUATIONS = 32
TURN_COST = 2048
"""What is read in one turn of the loop; a frame costs 1, one that opens a stream OPEN_COST."""
OPEN_COST = 32
LARGE_BLOCK_BYTES, LARGE_BLOCK_COST_BYTES = 4096, 256
"""A header block above this takes 0.2 ms a KiB to decode: each so many bytes count as a frame that brings nothing."""
MANY_FIELDS, MANY_FIELDS_COST = 40, 8
"""A block of more fields likewise, 3 µs a field: each so many count as a frame."""
_ID = 2**31 - 1


class Http2(Control):
    """One connection. After an H2Error it reads no more: its owner says goodbye with the error's code."""

    def __init__(self, owner: ConnectionOwner, max_streams: int) -> None:
        super().__init__(owner, max_streams)
        self.closed_above: int | None = None
        """Streams above this are not served: they were told so."""
        self.is_greeted = False
        self.behind = False
        """More has come than one turn reads: `feed` goes on with it."""
        self.progress = 0
        """Changes with what has come whole: a frame, a header block."""
        self._fields = FieldReader()
        self._held = bytearray(0)
        self._need = len(h2.PREFACE)
        self._taken = 0
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._block_of = (0, 0)
        self._decoded = 0
        """What decoding costs in this turn, beside the frames."""

    @property
    def coming(self) -> str:
        """What has begun to come and is not whole: "head", "body", or "" for nothing."""
        if self._block or not self.is_greeted:
            return "head"
        if not self._held or self.behind:
            return ""
        return "body" if self._held[3:4] == b"\0" else "head"

    def feed(self, data: bytes) -> None:
        """Take what has come, as far as one turn goes. Raises H2Error."""
        held = self._held
        if held:
            held += data
            if len(held) < self._need:
                return
            data = bytes(held)
            held.clear()
        at, end, cost = 0, len(data), 0
        self._decoded = 0
        if not self.is_greeted:
            if not self._greets(data):
                held += data
                return
            at = len(h2.PREFACE)
        self.behind = False
        while end - at >= h2.HEAD_BYTES:
            high, low, kind, flags, number = h2.HEAD.unpack_from(data, at)
            length = high << 16 | low
            if length > MAX_FRAME_BYTES:
                raise H2Error(h2.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            if cost + self._decoded >= TURN_COST:
                self.behind = True
                self._need = 0
                break
            stop = at + h2.HEAD_BYTES + length
            if stop > end:
                self._need = stop - at
                break
            opened = self.last_id
            self._frame(kind, flags, number & _ID, data[at + h2.HEAD_BYTES : stop])
            cost += OPEN_COST if self.last_id != opened else 1
            at = stop
        else:
            self._need = h2.HEAD_BYTES
        if at and not self._block:
            self.progress += 1
        if at < end:
            held += memoryview(data)[at:]

    def _greets(self, data: bytes) -> bool:
        """Whether the client's preface is there; raises H2Error where something else is."""
        if not data.startswith(h2.PREFACE[: len(data)]):
            raise H2Error(h2.PROTOCOL_ERROR, "what came is not HTTP/2")
        if len(data) >= len(h2.PREFACE):
            self.is_greeted = True
            self.greet()
        return self.is_greeted

    def _frame(self, kind: int, flags: int, number: int, body: bytes) -> None:
        if self._block and kind != h2.CONTINUATION:
            raise H2Error(h2.PROTOCOL_ERROR, "a header block is interrupted")
        if not self._settled and (kind != h2.SETTINGS or flags & h2.ACK):
            raise H2Error(h2.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == h2.DATA:
            self._data(flags, number, body)
        elif kind == h2.HEADERS:
            self._headers(flags, number, body)
        elif kind == h2.WINDOW_UPDATE:
            self._window_update(number, body)
        elif kind == h2.SETTINGS:
            self._settings(flags, number, body)
        elif kind == h2.RST_STREAM:
            self._rst_stream(number, body)
        elif kind == h2.CONTINUATION:
            self._continuation(flags, number, body)
        else:
            self._other(kind, flags, number, body)

    def _data(self, flags: int, number: int, body: bytes) -> None:
        size = len(body)
        self._taken += size
        if self._taken >= CONNECTION_WINDOW // 2:
            self.out.append(window_update(0, self._taken))
            self._taken = 0
        if flags & h2.PADDED:
            body = _unpadded(body)
        ended = bool(flags & h2.END_STREAM)
        if len(body) < SMALL_BYTES and not ended:
            self._spend()
        else:
            self.pay_back()
        stream = self.streams.get(number)
        if stream is None:
            self._late(number, ended)
            return
        stream.taken += size
        if stream.ended or stream.taken > STREAM_WINDOW:
            self._break(stream, h2.STREAM_CLOSED if stream.ended else h2.FLOW_CONTROL_ERROR)
            return
        stream.ended = ended
        stream.owner.data(body, ended)
        if stream.taken >= STREAM_WINDOW // 2 and number in self.streams:
            self.give_back(stream)

    def _late(self, number: int, ended: bool) -> None:
        """DATA or HEADERS for a stream that is not open."""
        if number == 0 or number > self.last_id or number % 2 == 0:
            raise H2Error(h2.PROTOCOL_ERROR, "a frame for a stream that was never opened")
        if number in self.early:
            self._spend()
            if ended:
                del self.early[number]
        elif self.closed_above is None or number <= self.closed_above:
            raise H2Error(h2.STREAM_CLOSED, "a frame for a stream that is closed")

    def _headers(self, flags: int, number: int, body: bytes) -> None:
        if number % 2 == 0:
            raise H2Error(h2.PROTOCOL_ERROR, "HEADERS for a stream that is not the client's")
        if flags & h2.PADDED:
            body = _unpadded(body)
        if flags & h2.PRIORITIZED:
            if len(body) < 5:
                raise H2Error(h2.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            body = body[5:]
        if flags & h2.END_HEADERS:
            self._request(number, bool(flags & h2.END_STREAM), body)
            return
        self._block, self._block_bytes, self._block_of = [body], len(body), (number, flags)

    def _continuation(self, flags: int, number: int, body: bytes) -> None:
        if not self._block or number != self._block_of[0]:
            raise H2Error(h2.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._block.append(body)
        self._block_bytes += len(body)
        if len(self._block) > MAX_CONTINUATIONS or self._block_bytes > MAX_BLOCK_BYTES:
            raise H2Error(h2.ENHANCE_YOUR_CALM, "a header block that does not end")
        if flags & h2.END_HEADERS:
            block, self._block = b"".join(self._block), []
            self._request(number, bool(self._block_of[1] & h2.END_STREAM), block)

    def _request(self, number: int, ended: bool, bytes_: bytes) -> None:
        if len(bytes_) > LARGE_BLOCK_BYTES:
            self._spend(len(bytes_) // LARGE_BLOCK_COST_BYTES)
        block = self._fields.read(bytes_)
        if decoded := self._fields.decoded_fields:
            self._decoded += decoded + len(bytes_) // LARGE_BLOCK_COST_BYTES * OPEN_COST
            if decoded > MANY_FIELDS:
                self._spend(decoded // MANY_FIELDS_COST)
        stream = self.streams.get(number)
        if stream is not None:  # trailers, which nobody reads
            if stream.ended or not ended:
                self._break(stream, h2.STREAM_CLOSED if stream.ended else h2.PROTOCOL_ERROR)
                return
            stream.ended = True
            stream.owner.data(b"", True)
            return
        if number <= self.last_id:
            self._late(number, ended)
            return
        self.last_id = number
        self.pay_back()
        if self.closed_above is not None:
            self._spend()
            return
        stream = Stream(number, self._peer_window)
        stream.ended = ended
        if self._resets < 0 and not block.wrong:
            self._spend_reset()
            self.reset(stream, h2.REFUSED_STREAM)
            self._owner.refused(block)
            return
        if block.wrong or len(self.streams) >= self.max_streams:
            self._break(stream, h2.PROTOCOL_ERROR if block.wrong else h2.REFUSED_STREAM)
            if not block.wrong:
                self._owner.refused(block)
            return
        self.streams[number] = stream
        self._owner.opened(stream, block)
        if ended and number in self.streams:
            stream.owner.data(b"", True)


def _unpadded(body: bytes) -> bytes:
    """The payload without its padding. Raises H2Error."""
    if not body:
        raise H2Error(h2.FRAME_SIZE_ERROR, "padding without its length")
    if body[0] >= len(body):
        raise H2Error(h2.PROTOCOL_ERROR, "padding longer than its frame")
    return body[1 : len(body) - body[0]]
