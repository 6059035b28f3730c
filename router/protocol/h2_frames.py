"""HTTP/2's frames as bytes (RFC 9113): their kinds, codes and sizes, and how those that we send are written.

Header blocks are written without state: static entries and literals that are never indexed, so that a block is the same
bytes for every connection (RFC 7541). Reading is h2_fields.py and h2.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
HEAD = struct.Struct(">BHBBI")
"""Length in two parts, kind, flags, stream."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1
LAST_STREAM = 2**31 - 1
"""Named in a first GOAWAY: whatever is on its way is still served."""
SMALLEST_FRAME = 16_384
"""What every peer must take."""
RESIZE_TABLE = b"\x20"
"""Opens a block: the dynamic table has no room from now on. For a client that takes back the room it gave."""
_SMALL = 127


class H2Error(Exception):
    """The connection cannot go on. `code` goes into GOAWAY, the words behind it and into the log."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    length = len(payload)
    return HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def head_of(kind: int, flags: int, stream: int, length: int) -> bytes:
    """The head of a frame whose payload of `length` bytes follows."""
    return HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream)


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in values.items()))


def goaway(last: int, code: int, words: str = "") -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + words.encode())


def rst_stream(stream: int, code: int) -> bytes:
    """An RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def window_update(stream: int, more: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, more.to_bytes(4, "big"))


def integer(number: int, prefix_bits: int, pattern: int = 0) -> bytes:
    """HPACK's integer: `pattern` has the bits before the prefix."""
    most = (1 << prefix_bits) - 1
    if number < most:
        return bytes((pattern | number,))
    out = bytearray((pattern | most,))
    number -= most
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(name: bytes, value: bytes) -> bytes:
    """One header as a literal that enters no table."""
    length = len(value)
    if length < _SMALL:
        return b"%b%c%b" % (_name(name), length, value)
    return b"%b%b%b" % (_name(name), integer(length, 7), value)


def fields(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block, or a part of one."""
    return b"".join(field(name, value) for name, value in headers)


@lru_cache(256)
def _name(name: bytes) -> bytes:
    return b"\0" + integer(len(name), 7) + name
