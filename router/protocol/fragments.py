"""Large messages on their way out: cut into frames that point into the tensors' own memory, each in its turn.

    u32 length of what follows the kind | u8 FRAGMENT | u32 message id | u8 kind | u32 size of the message | bytes

Owns this layout (framing.py reads it) and whose turn it is. Kind ABANDONED, with size 0 and no bytes, says that the
rest of a message will not come. Never opens a socket.
"""

from __future__ import annotations

import itertools
import struct
from collections import deque

from router.protocol.link import FRAGMENT_BYTES, KINDS, Message
from router.protocol.scatter import Part, scattered

FRAGMENT = 255
ABANDONED = 0

HEAD = struct.Struct("<IB")
"""Of every frame: length of the body, kind."""
PIECE = struct.Struct("<IBI")
"""Begins the body of a fragment: message id, kind and size of the whole message."""
FRAGMENT_HEAD_BYTES = HEAD.size + PIECE.size

_message_ids = itertools.count()


class MessageTooLarge(Exception):
    """The message has more bytes than a peer takes: it cannot be sent. The stream is as it was."""


class Fragments:
    """One message, cut as it leaves. Its tensors' memory is held, and must not change, until the last frame is written.

    `key` is the owner's name for it. `message_id` (u32) tells the fragments of messages apart that are on their way at
    the same time: by default one that this process has not used for its last 2**32 large messages.
    """

    __slots__ = ("_id", "_kind", "_parts", "key", "left_bytes", "size")

    def __init__(self, message: Message, max_bytes: int, key: int = 0, message_id: int | None = None) -> None:
        """Raises MessageTooLarge, and what scattered() raises."""
        self._parts = deque(memoryview(part).cast("B") for part in scattered(message) if part)
        self.size = self.left_bytes = sum(map(len, self._parts))
        if self.size > max_bytes:
            raise MessageTooLarge(f"{self.size} bytes, at most {max_bytes} can be sent at once")
        self._kind = KINDS[type(message)]
        self._id = next(_message_ids) & 0xFFFF_FFFF if message_id is None else message_id
        self.key = key

    def next(self) -> list[Part]:
        """The next frame, in parts to be written one after the other. Only while `left_bytes` is not 0."""
        missing = min(self.left_bytes, FRAGMENT_BYTES)
        self.left_bytes -= missing
        frame: list[Part] = [HEAD.pack(PIECE.size + missing, FRAGMENT) + PIECE.pack(self._id, self._kind, self.size)]
        parts = self._parts
        while missing:
            part = parts.popleft()
            if len(part) > missing:
                parts.appendleft(part[missing:])
                part = part[:missing]
            frame.append(part)
            missing -= len(part)
        return frame

    def abandon(self) -> bytes:
        """What tells the peer that no more of it will come: nothing where nothing has left."""
        if self.left_bytes == self.size:
            return b""
        return HEAD.pack(PIECE.size, FRAGMENT) + PIECE.pack(self._id, ABANDONED, 0)


class FragmentQueue:
    """Large messages of one stream, a frame of each in turn.

    In turn, and not one message after the other: what is a little too large for one frame would else wait for all of
    what is 200 times larger. Of equals the last ends no later for it.
    """

    def __init__(self, max_open: int) -> None:
        """`max_open`: how many may be on their way at once; the peer takes no more."""
        self._max_open = max_open
        self._turns: deque[Fragments] = deque()
        self._later: deque[Fragments] = deque()
        self.nbytes = 0
        """Bytes that have not left."""

    def __bool__(self) -> bool:
        """Whether anything has not left."""
        return bool(self._turns)

    def add(self, message: Fragments) -> None:
        """Line up behind the others."""
        self.nbytes += message.size
        (self._turns if len(self._turns) < self._max_open else self._later).append(message)

    def next(self) -> list[Part]:
        """The frame whose turn it is. Raises IndexError where nothing is left."""
        message = self._turns.popleft()
        before = message.left_bytes
        frame = message.next()
        self.nbytes -= before - message.left_bytes
        if message.left_bytes:
            self._turns.append(message)
        else:
            self._let_in()
        return frame

    def drop(self, key: int) -> bytes | None:
        """Forget a message that has not left whole. Returns what to tell the peer, maybe nothing.

        None: there is no such message; it has left, or never was here.
        """
        for line in (self._turns, self._later):
            for message in line:
                if message.key == key:
                    line.remove(message)
                    self.nbytes -= message.left_bytes
                    self._let_in()
                    return message.abandon()
        return None

    def clear(self) -> None:
        """Forget everything."""
        self._turns.clear()
        self._later.clear()
        self.nbytes = 0

    def _let_in(self) -> None:
        if self._later and len(self._turns) < self._max_open:
            self._turns.append(self._later.popleft())
