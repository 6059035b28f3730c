"""Header blocks of requests: HPACK to fields, and what HTTP/2 asks of a request's fields (RFC 9113, 8.2 and 8.3).

The door to hpack, which decodes. What a block may cost is known before it is decoded: a walk over it counts its fields
and refuses long numbers. A block that leaves the table as it was is decoded once for as long as the table stays so.
"""

from __future__ import annotations

import re
from typing import Any

from hpack import Decoder
from hpack.exceptions import HPACKError

from router.protocol.h2_frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, H2Error

Fields = list[tuple[bytes, bytes]]

MAX_LIST_BYTES = 64 * 1024
"""Of one request's headers, each with 32 bytes more, as HTTP/2 counts; a request with more is refused."""
MAX_BLOCK_BYTES = MAX_LIST_BYTES + 16 * 1024
"""What is decoded at all: without decoding a block the connection cannot go on."""
MAX_BLOCK_FIELDS = 256
SORTED_FIELDS = 128
"""What is looked at one by one: a request with so many is refused, whatever the others are."""
MAX_KNOWN = 16
MAX_KNOWN_BYTES = 1024
"""Blocks that a connection remembers, and the longest of them."""
_LONGEST_INTEGER = 5
_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+\Z")
_BAD_VALUE = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})
_CONNECTION = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})


class Block:
    """One decoded header block. `made` is whatever its reader makes of it, for the next request with the same block."""

    __slots__ = ("made", "pseudo", "rest", "size_bytes", "wrong")

    def __init__(self, fields: Fields) -> None:
        self.made: Any = None
        self.size_bytes = sum(len(name) + len(value) + 32 for name, value in fields)
        self.pseudo: dict[bytes, bytes] = {}
        self.rest: Fields = []
        self.wrong = self._sort(fields)
        """Why these are not the fields of a request, "" where they are."""

    def _sort(self, fields: Fields) -> str:
        for name, value in fields[:SORTED_FIELDS]:
            if name.startswith(b":"):
                if self.rest or name in self.pseudo or name not in _PSEUDO:
                    return "a pseudo-header is unknown, repeated or late"
                self.pseudo[name] = value
            elif not _NAME.match(name) or _BAD_VALUE.search(value):
                return "a header has bytes that it may not have"
            elif name in _CONNECTION or (name == b"te" and value.lower() != b"trailers"):
                return "a header of the connection, which HTTP/2 has none of"
            else:
                self.rest.append((name, value))
        if not self.pseudo.get(b":path") or not self.pseudo.get(b":method") or b":scheme" not in self.pseudo:
            return "a pseudo-header is missing"
        return ""


class FieldReader:
    """The header blocks of one connection, in their order."""

    def __init__(self) -> None:
        self._decoder = Decoder(MAX_BLOCK_BYTES)
        self._known: dict[bytes, Block] = {}
        self.decoded_fields = 0
        """Of the last block; 0 where it was known."""

    def read(self, block: bytes) -> Block:
        """The fields of one block. Raises H2Error."""
        known = self._known.get(block)
        self.decoded_fields = 0
        if known is not None:
            return known
        count, changes = walk(block)
        if count > MAX_BLOCK_FIELDS:
            raise H2Error(ENHANCE_YOUR_CALM, f"more than {MAX_BLOCK_FIELDS} headers")
        try:
            fields: Fields = [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except (HPACKError, IndexError, ValueError):
            raise H2Error(COMPRESSION_ERROR, "a header block that cannot be decoded") from None
        self.decoded_fields = count
        read = Block(fields)
        if changes:
            self._known.clear()
        elif len(block) <= MAX_KNOWN_BYTES and read.size_bytes <= MAX_BLOCK_BYTES // 8:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[block] = read
        return read


def walk(block: bytes) -> tuple[int, bool]:
    """How many fields a block has, and whether it changes the dynamic table. Raises H2Error where it breaks off."""
    at, end, count, changes = 0, len(block), 0, False
    try:
        while at < end:
            first = block[at]
            count += 1
            if first & 0x80:
                at = _after(block, at, 7)[1]
            elif first & 0xE0 == 0x20:
                changes = True
                at = _after(block, at, 5)[1]
            else:
                changes = changes or bool(first & 0x40)
                index, at = _after(block, at, 6 if first & 0x40 else 4)
                if not index:
                    length, at = _after(block, at, 7)
                    at += length
                length, at = _after(block, at, 7)
                at += length
    except IndexError:
        at = end + 1
    if at > end:
        raise H2Error(COMPRESSION_ERROR, "a header block breaks off")
    return count, changes


def _after(block: bytes, at: int, prefix_bits: int) -> tuple[int, int]:
    """An integer and where it ends. Raises H2Error for one that is longer than any that is meant."""
    most = (1 << prefix_bits) - 1
    number = block[at] & most
    at += 1
    if number < most:
        return number, at
    for shift in range(0, 7 * _LONGEST_INTEGER, 7):
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise H2Error(COMPRESSION_ERROR, "a number in a header block is too long")
