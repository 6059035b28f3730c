"""What we send on an HTTP/2 connection: answers within the windows that the peer gives, streams taking turns.

Frames to be written are in `out`; who owns the socket takes them. What a window or a client that does not read holds
back stays in its stream and is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from router.protocol.h2_frames import (
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    NO_ERROR,
    RESIZE_TABLE,
    SMALLEST_FRAME,
    head_of,
    rst_stream,
    settings,
    window_update,
)

Part = bytes | bytearray | memoryview

STREAM_WINDOW = 1024 * 1024
"""What a client may send on a stream before it hears more."""
CONNECTION_WINDOW = 16 * 1024 * 1024
MAX_FRAME_BYTES = 64 * 1024
"""Payload of a frame that we take."""
SMALL_BYTES = 256
"""DATA below this brings nothing further unless it ends something: a message, a stream, what is queued."""
_WINDOWS_PAID = 2
"""For DATA that we send: its stream's window is opened anew, and the connection's."""


class StreamOwner(Protocol):
    """Whose stream it is."""

    def data(self, part: bytes, ended: bool) -> None:
        """A part of the request's body has come; `ended`: its last, which may be empty."""

    def gone(self) -> None:
        """The stream is over before its answer was: the client reset it, or broke a rule of HTTP/2."""

    def sent(self) -> None:
        """All that was queued has left."""

    def closed(self) -> None:
        """Nothing of the stream is left. The last that its owner hears of it, once, but for `gone`."""

    def check(self, now_s: float) -> None:
        """Called now and then: end what takes too long."""


class Nobody:
    """Owns the streams that are over."""

    def data(self, part: bytes, ended: bool) -> None:
        """Of no use."""

    def gone(self) -> None:
        """It has."""

    def sent(self) -> None:
        """It is."""

    def closed(self) -> None:
        """It was."""

    def check(self, now_s: float) -> None:
        """Nothing takes its time."""


NOBODY = Nobody()


class Stream:
    """One request and its answer."""

    __slots__ = (
        "ended", "id", "last", "owner", "paused", "queue", "queued_bytes", "sent_bytes", "taken", "waiting_bytes",
        "waits", "window",
    )  # fmt: skip

    def __init__(self, number: int, window: int) -> None:
        self.id = number
        self.owner: StreamOwner = NOBODY
        self.window = window
        """Bytes that the client lets us send."""
        self.taken = 0
        """Bytes that it sent and was not yet given back, at most STREAM_WINDOW."""
        self.paused = False
        """It is given back nothing."""
        self.ended = False
        """The client has sent its last."""
        self.queue: deque[memoryview] = deque()
        self.queued_bytes = 0
        self.waiting_bytes = 0
        """Of answers that its owner keeps until it is their turn."""
        self.sent_bytes = 0
        self.waits = False
        """For its turn to send."""
        self.last: bytes | None = None
        """Trailers that follow the queue."""


class Sending:
    """The sending half of a connection."""

    def __init__(self, max_streams: int) -> None:
        self.out: list[Part] = []
        self.streams: dict[int, Stream] = {}
        """Those not yet closed."""
        self.early: dict[int, None] = {}
        """Streams that we closed before the client had: what is still on its way on them means nothing."""
        self.queued_bytes = 0
        """Of all streams: what the client does not take."""
        self.windows_paid = 0
        """Windows that the peer may open at no cost, for what it was sent."""
        self.stopped = False
        """The socket takes no more for now: only control frames and ends are written."""
        self.max_streams = max_streams
        self._window = self._peer_window = DEFAULT_WINDOW
        self._frame_bytes = SMALLEST_FRAME
        self._block_opens = b""
        self._ready: deque[Stream] = deque()

    def greet(self) -> None:
        """Our side's settings, and the room that a connection has beyond the default."""
        ours = {
            MAX_CONCURRENT_STREAMS: self.max_streams, INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            MAX_FRAME_SIZE: MAX_FRAME_BYTES, MAX_HEADER_LIST_SIZE: 64 * 1024,
        }  # fmt: skip
        self.out += (settings(ours), window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))

    def answer(self, stream: Stream, head: bytes, body: Sequence[Part], size_bytes: int, last: bytes) -> None:
        """Head, body of `size_bytes` and trailers, in one piece where it may leave at once; ends the stream."""
        if size_bytes > min(self._window, stream.window, self._frame_bytes) or self.stopped:
            self.start(stream, head)
            self.send(stream, body, size_bytes)
            self.finish(stream, last)
            return
        self.windows_paid += _WINDOWS_PAID
        self._window -= size_bytes
        stream.window -= size_bytes
        stream.sent_bytes += size_bytes
        number = stream.id
        self.out += (
            self._head(stream, head, 0), head_of(DATA, 0, number, size_bytes), *body, self._head(stream, last, 1)
        )  # fmt: skip
        self._close(stream)

    def start(self, stream: Stream, head: bytes) -> None:
        """The head of an answer."""
        self.out.append(self._head(stream, head, 0))

    def send(self, stream: Stream, body: Sequence[Part], size_bytes: int) -> None:
        """A part of the body, to leave by `pump`."""
        stream.queue.extend(memoryview(part).cast("B") for part in body if len(part))
        stream.queued_bytes += size_bytes
        self.queued_bytes += size_bytes
        self._wait(stream)

    def finish(self, stream: Stream, last: bytes) -> None:
        """Trailers behind what is queued; a stream whose answer has no head yet is answered by them alone."""
        if stream.queue:
            stream.last = last
            return
        self.out.append(self._head(stream, last, END_STREAM))
        self._close(stream)

    def reset(self, stream: Stream, code: int) -> None:
        """Close a stream without an end."""
        self.out.append(rst_stream(stream.id, code))
        self.forget(stream)

    def pump(self, most_bytes: int) -> None:
        """Move about so much of what is queued to `out`, streams taking turns by frames."""
        ready = self._ready
        while ready and self._window > 0 and most_bytes > 0 and not self.stopped:
            stream = ready.popleft()
            stream.waits = False
            room = min(self._window, stream.window, self._frame_bytes)
            if not stream.queue or room <= 0:
                continue  # reset, or waits for its own window
            most_bytes -= self._send_frame(stream, room)
            if stream.queue:
                self._wait(stream)
                continue
            owner = stream.owner
            if stream.last is not None:
                self.finish(stream, stream.last)
            owner.sent()

    @property
    def is_behind(self) -> bool:
        """Whether `pump` would move something."""
        return bool(self._ready) and self._window > 0 and not self.stopped

    def give_back(self, stream: Stream) -> None:
        """The client may send on this stream what it has sent already."""
        if stream.taken and not stream.ended and not stream.paused:
            self.out.append(window_update(stream.id, stream.taken))
            stream.taken = 0

    def _wait(self, stream: Stream) -> None:
        if stream.queue and not stream.waits and stream.window > 0:
            stream.waits = True
            self._ready.append(stream)

    def _send_frame(self, stream: Stream, room: int) -> int:
        parts: list[Part] = []
        size = 0
        while stream.queue and size < room:
            part = stream.queue.popleft()
            if len(part) > room - size:
                stream.queue.appendleft(part[room - size :])
                part = part[: room - size]
            parts.append(part)
            size += len(part)
        self.out += (head_of(DATA, 0, stream.id, size), *parts)
        if size >= SMALL_BYTES or not stream.queue:
            self.windows_paid += _WINDOWS_PAID
        self._window -= size
        stream.window -= size
        stream.queued_bytes -= size
        stream.sent_bytes += size
        self.queued_bytes -= size
        return size

    def _head(self, stream: Stream, block: bytes, flags: int) -> bytes:
        if self._block_opens:
            block, self._block_opens = self._block_opens + block, b""
        if len(block) <= SMALLEST_FRAME:
            return head_of(HEADERS, flags | END_HEADERS, stream.id, len(block)) + block
        raise ValueError(f"a header block of {len(block)} bytes")

    def _close(self, stream: Stream) -> None:
        """Our side has ended; a client that still sends is told that nobody reads it."""
        if not stream.ended:
            self.out.append(rst_stream(stream.id, NO_ERROR))
        self.forget(stream)

    def forget(self, stream: Stream) -> None:
        """It is over, as far as we are concerned."""
        self.streams.pop(stream.id, None)
        if not stream.ended:
            if len(self.early) >= 2 * self.max_streams:
                del self.early[next(iter(self.early))]
            self.early[stream.id] = None
        self.queued_bytes -= stream.queued_bytes
        stream.queued_bytes = 0
        stream.queue.clear()
        stream.last = None
        owner = stream.owner
        stream.owner = NOBODY  # who refers back to it: without this only the garbage collector would free both
        owner.closed()

    def _more_window(self, stream: Stream | None, more: int) -> bool:
        """The peer lets us send more; False where that is more than a window may be."""
        if stream is None:
            self._window += more
            return self._window <= LARGEST_WINDOW
        stream.window += more
        self._wait(stream)
        return stream.window <= LARGEST_WINDOW

    def _set_peer_window(self, size: int) -> bool:
        more, self._peer_window = size - self._peer_window, size
        return all(self._more_window(stream, more) for stream in self.streams.values())

    def _resize_table(self) -> None:
        self._block_opens = RESIZE_TABLE
