"""Messages to frames and back, sans-IO: `u32 little-endian length of the body | u8 kind | body`.

Kind is the tag of a message of link.py, whose body is one msgpack array, or FRAGMENT, whose body is
`u32 message id | u8 end | bytes`: a piece of a longer body. `end` is 0 while more follows, then the message's kind.
Owns what may be on the wire and its bounds. Never opens a socket, never acts on a message.
"""

from __future__ import annotations

import itertools
import struct
from typing import Any, get_args

import msgspec

from router.protocol.link import FRAGMENT_BYTES, Message

FRAGMENT = 255
_MORE = 0

_FRAME = struct.Struct("<IB")
_PIECE = struct.Struct("<IB")
_FRAGMENT_HEAD_BYTES = _FRAME.size + _PIECE.size

_KINDS: dict[type, int] = {kind: kind.__struct_config__.tag for kind in get_args(Message)}
_DECODERS: dict[int, msgspec.msgpack.Decoder[Any]] = {
    tag: msgspec.msgpack.Decoder(kind) for kind, tag in _KINDS.items()
}
_message_ids = itertools.count()
_encode = msgspec.msgpack.Encoder().encode


class LinkError(Exception):
    """The peer broke the protocol. Nothing more can be read from this connection: it must be closed."""


def frame(message: Message, message_id: int | None = None) -> list[bytes]:
    """The message as whole frames, to be sent in order; frames of other messages may go between them.

    One frame up to FRAGMENT_BYTES of body; beyond, fragments that carry `message_id` (u32), by default one that this
    process has not used for its last 2**32 long messages, so that fragments of several messages may mix.
    """
    body = _encode(message)
    kind = _KINDS[type(message)]
    size = len(body)
    if size <= FRAGMENT_BYTES:
        return [_FRAME.pack(size, kind) + body]
    if message_id is None:
        message_id = next(_message_ids) & 0xFFFF_FFFF
    frames, view = [], memoryview(body)
    for at in range(0, size, FRAGMENT_BYTES):
        piece = view[at : at + FRAGMENT_BYTES]
        end = kind if at + FRAGMENT_BYTES >= size else _MORE
        head = _FRAME.pack(_PIECE.size + len(piece), FRAGMENT) + _PIECE.pack(message_id, end)
        frames.append(b"".join((head, piece)))
    return frames


class FrameReader:
    """Bytes of one direction of a stream to messages.

    Tensor data are read-only views: of the bytes fed where a frame lies whole in them, else of a buffer that nobody
    writes to again. Undecoded, it holds at most `max_open_fragments` messages of `max_message_bytes` and one frame, and
    never reserves more than has arrived.
    """

    def __init__(self, max_message_bytes: int, max_open_fragments: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._max_open_fragments = max_open_fragments
        self._open: dict[int, bytearray] = {}
        self._head = bytearray()
        self._body = bytearray()
        """Where the rest of the current frame goes: a buffer of its own, or that of the message it is a piece of."""
        self._missing = 0
        self._kind = _MORE
        """Kind of the message that is complete once nothing is missing."""
        self._broken = False

    def feed(self, data: bytes) -> list[Message]:
        """Every message that these bytes complete, in order. `data` must not change afterwards.

        Raises LinkError, and again on every later call; what the same bytes completed before the fault is lost with it.
        """
        if self._broken:
            raise LinkError("the stream is broken already")
        messages: list[Message] = []
        view, at, end = memoryview(data), 0, len(data)
        try:
            while at < end:
                at = self._fill(view, at, messages) if self._missing else self._begin(view, at, messages)
        except LinkError:
            self._broken = True
            self._open.clear()
            self._head, self._body = bytearray(), bytearray()
            raise
        return messages

    def _begin(self, view: memoryview, at: int, messages: list[Message]) -> int:
        """Read a frame's head, and its body where all of it is here. Returns how far it read."""
        head, end = self._head, len(view)
        body_at = at + _FRAME.size
        if not head and body_at <= end:
            size, kind = _FRAME.unpack_from(view, at)
            if kind != FRAGMENT:
                self._check_whole(size, kind)
                stop: int = body_at + size
                if stop <= end:
                    messages.append(_decode(kind, view[body_at:stop]))
                    return stop
        at = _top_up(head, view, at, _FRAME.size)
        if len(head) < _FRAME.size:
            return at
        size, kind = _FRAME.unpack_from(head)
        if kind != FRAGMENT:
            self._check_whole(size, kind)
            self._body, self._missing, self._kind = bytearray(), size, kind
        else:
            at = _top_up(head, view, at, _FRAGMENT_HEAD_BYTES)
            if len(head) < _FRAGMENT_HEAD_BYTES:
                return at
            self._begin_piece(size, *_PIECE.unpack_from(head, _FRAME.size))
        self._head = bytearray()
        return at

    def _check_whole(self, size: int, kind: int) -> None:
        if kind not in _DECODERS:
            raise LinkError(f"unknown frame kind {kind}")
        if not 0 < size <= min(FRAGMENT_BYTES, self._max_message_bytes):
            raise LinkError(f"a whole frame of {size} bytes")

    def _begin_piece(self, size: int, message_id: int, end: int) -> None:
        if end != _MORE and end not in _DECODERS:
            raise LinkError(f"unknown kind {end} of a fragmented message")
        size -= _PIECE.size
        if not 0 < size <= FRAGMENT_BYTES:
            raise LinkError(f"a fragment of {size} bytes")
        body = self._open.get(message_id)
        if body is None:
            if len(self._open) >= self._max_open_fragments:
                raise LinkError(f"more than {self._max_open_fragments} messages in fragments at once")
            body = self._open[message_id] = bytearray()
        if len(body) + size > self._max_message_bytes:
            raise LinkError(f"a message of more than {self._max_message_bytes} bytes")
        if end != _MORE:
            del self._open[message_id]
        self._body, self._missing, self._kind = body, size, end

    def _fill(self, view: memoryview, at: int, messages: list[Message]) -> int:
        """Move what is here of the current frame's body to its buffer. Returns how far it read."""
        stop = min(len(view), at + self._missing)
        self._body += view[at:stop]
        self._missing -= stop - at
        if not self._missing and self._kind != _MORE:
            body, self._body = self._body, bytearray()
            messages.append(_decode(self._kind, memoryview(body).toreadonly()))
        return stop


def _decode(kind: int, body: memoryview) -> Message:
    try:
        message: Message = _DECODERS[kind].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LinkError(f"a body that is not a message of kind {kind}: {error}") from error
    return message


def _top_up(head: bytearray, view: memoryview, at: int, size: int) -> int:
    """Bring `head` up to `size` bytes, as far as `view` has them. Returns how far it read."""
    stop = min(len(view), at + max(0, size - len(head)))
    head += view[at:stop]
    return stop
