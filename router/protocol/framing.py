"""Messages to frames and back, sans-IO: `u32 little-endian length of the body | u8 kind | body`.

Kind is the tag of a message of link.py, whose body is one msgpack array, or FRAGMENT, whose body is a piece of a longer
one (fragments.py). Owns what may be on the wire and its bounds. Never opens a socket, never acts on a message.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from router.protocol.fragments import ABANDONED, FRAGMENT, FRAGMENT_HEAD_BYTES, HEAD, PIECE, Fragments
from router.protocol.link import FRAGMENT_BYTES, KINDS, Message
from router.protocol.scatter import encode

EARNED_BYTES = 4 * FRAGMENT_BYTES
"""Once so much of a message has come, room for all of it is reserved; until then for so much. What is reserved and not
written to is address space and no memory, so that a size which is only claimed costs nothing."""

_DECODERS: dict[int, msgspec.msgpack.Decoder[Any]] = {tag: msgspec.msgpack.Decoder(kind) for kind, tag in KINDS.items()}


class LinkError(Exception):
    """The peer broke the protocol. Nothing more can be read from this connection: it must be closed."""


def frame(message: Message) -> list[bytes]:
    """The message as whole frames, to be sent in order; frames of other messages may go between them.

    One frame up to FRAGMENT_BYTES of body, fragments beyond. Copies: large tensors are for Fragments.
    """
    body = encode(message)
    size = len(body)
    if size <= FRAGMENT_BYTES:
        return [HEAD.pack(size, KINDS[type(message)]) + body]
    fragments, frames = Fragments(message, size), []
    while fragments.left_bytes:
        frames.append(b"".join(fragments.next()))
    return frames


class _Incoming:
    """A message of which some fragments have come."""

    __slots__ = ("_room", "arrived", "kind", "size")

    def __init__(self, kind: int, size: int) -> None:
        self.kind = kind
        self.size = size
        self.arrived = 0
        self._room = np.empty(0, np.uint8)

    def space(self, nbytes: int) -> memoryview:
        """Where the next `nbytes` of it go."""
        start, end = self.arrived, self.arrived + nbytes
        if end > len(self._room):
            room = np.empty(self.size if end > EARNED_BYTES else min(self.size, EARNED_BYTES), np.uint8)
            room[:start] = self._room[:start]
            self._room = room
        self.arrived = end
        return self._room.data[start:end]

    def message(self) -> Message:
        """What it is, once all of it has arrived. Raises LinkError."""
        return _decode(self.kind, self._room.data.toreadonly())


class FrameReader:
    """Bytes of one direction of a stream to messages.

    Bytes are fed; while fragments come (`gathering`), most may be read straight to where they belong instead (`space`).
    Tensor data are read-only views: of the bytes fed where a frame lies whole in them, else of a buffer that nobody
    writes to again. Undecoded, it holds at most `max_open_fragments` messages of `max_message_bytes` and one frame, and
    touches no more memory than has arrived.
    """

    def __init__(self, max_message_bytes: int, max_open_fragments: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._max_open_fragments = max_open_fragments
        self._open: dict[int, _Incoming] = {}
        self._head = bytearray()
        self._missing = 0
        """Bytes of the current frame's body that are still to come."""
        self._kind = 0
        self._body = bytearray()
        """The current frame's body, where it is a whole message of `_kind`."""
        self._piece = 0
        """Id of the message that the current frame is a piece of."""
        self._space: memoryview | None = None
        """Where the rest of that piece goes; None: the current frame is no piece."""
        self._broken = False
        self.taken_bytes = 0
        """Bytes of fragments since the owner set this to 0: what he is to tell the peer."""

    @property
    def gathering(self) -> bool:
        """Whether a message is here in part."""
        return bool(self._open)

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
            self._break()
            raise
        return messages

    def space(self) -> memoryview | None:
        """Where the next bytes of the stream belong, if they may be written there at once; None: feed them."""
        return self._space

    def wrote(self, nbytes: int) -> list[Message]:
        """So many bytes were written to the beginning of `space`. Returns and raises as feed() does."""
        messages: list[Message] = []
        try:
            self._advance(nbytes, messages)
        except LinkError:
            self._break()
            raise
        return messages

    def _break(self) -> None:
        self._broken = True
        self._open.clear()
        self._head, self._body, self._space = bytearray(), bytearray(), None

    def _begin(self, view: memoryview, at: int, messages: list[Message]) -> int:
        """Read a frame's head, and its body where all of it is here. Returns how far it read."""
        head, end = self._head, len(view)
        body_at = at + HEAD.size
        if not head and body_at <= end:
            size, kind = HEAD.unpack_from(view, at)
            if kind != FRAGMENT:
                self._check_whole(size, kind)
                stop: int = body_at + size
                if stop <= end:
                    messages.append(_decode(kind, view[body_at:stop]))
                    return stop
        at = _top_up(head, view, at, HEAD.size)
        if len(head) < HEAD.size:
            return at
        size, kind = HEAD.unpack_from(head)
        if kind != FRAGMENT:
            self._check_whole(size, kind)
            self._body, self._missing, self._kind = bytearray(), size, kind
        else:
            at = _top_up(head, view, at, FRAGMENT_HEAD_BYTES)
            if len(head) < FRAGMENT_HEAD_BYTES:
                return at
            self._begin_piece(size - PIECE.size, *PIECE.unpack_from(head, HEAD.size))
        self._head = bytearray()
        return at

    def _check_whole(self, size: int, kind: int) -> None:
        if kind not in _DECODERS:
            raise LinkError(f"unknown frame kind {kind}")
        if not 0 < size <= min(FRAGMENT_BYTES, self._max_message_bytes):
            raise LinkError(f"a whole frame of {size} bytes")

    def _begin_piece(self, nbytes: int, message_id: int, kind: int, size: int) -> None:
        """A fragment of `nbytes`, of a message that is to have `size`."""
        message = self._open.get(message_id)
        if kind == ABANDONED:
            if message is None or nbytes or size:
                raise LinkError("a message is given up that was not begun")
            del self._open[message_id]
            return
        if kind not in _DECODERS:
            raise LinkError(f"unknown kind {kind} of a fragmented message")
        if not 0 < nbytes <= FRAGMENT_BYTES:
            raise LinkError(f"a fragment of {nbytes} bytes")
        if message is None:
            if size > self._max_message_bytes:
                raise LinkError(f"a message of {size} bytes, more than {self._max_message_bytes}")
            if len(self._open) >= self._max_open_fragments:
                raise LinkError(f"more than {self._max_open_fragments} messages in fragments at once")
            message = self._open[message_id] = _Incoming(kind, size)
        if (kind, size) != (message.kind, message.size) or message.arrived + nbytes > size:
            raise LinkError(f"a fragment of {nbytes} bytes that does not fit the ones before it")
        self.taken_bytes += nbytes
        self._space, self._missing, self._piece = message.space(nbytes), nbytes, message_id

    def _fill(self, view: memoryview, at: int, messages: list[Message]) -> int:
        """Move what is here of the current frame's body to its buffer. Returns how far it read."""
        stop = min(len(view), at + self._missing)
        if self._space is None:
            self._body += view[at:stop]
        else:
            self._space[: stop - at] = view[at:stop]
        self._advance(stop - at, messages)
        return stop

    def _advance(self, nbytes: int, messages: list[Message]) -> None:
        """So much more of the current frame's body is where it belongs."""
        self._missing -= nbytes
        if self._space is not None:
            self._space = self._space[nbytes:] if self._missing else None
            if not self._missing and (message := self._open[self._piece]).arrived == message.size:
                del self._open[self._piece]
                messages.append(message.message())
        elif not self._missing:
            body, self._body = self._body, bytearray()
            messages.append(_decode(self._kind, memoryview(body).toreadonly()))


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
