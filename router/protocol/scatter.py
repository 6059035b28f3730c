"""A message's msgpack bytes in parts, so that tensor data leave from where they lie.

Owns the layout that msgspec gives to messages, written here without copying what is large in them; a property test
holds the two equal. What is small is encoded by msgspec itself, which is faster.
"""

from __future__ import annotations

import struct

import msgspec

Part = bytes | bytearray | memoryview

COPIED_BYTES = 4096
"""Data up to this size are copied: a part of its own costs more."""

encode = msgspec.msgpack.Encoder().encode
"""The one encoder of everything that travels on a stream."""


def scattered(message: msgspec.Struct) -> list[Part]:
    """The bytes of `encode(message)` in order, not joined: parts that are memoryviews are the tensors' own data.

    Those must not change until they are written. Raises what `encode` raises: for values without an encoding, and
    BufferError for data that do not lie in one piece.
    """
    parts: list[Part] = [bytearray()]
    _add(message, parts)
    return parts


def _add(value: object, parts: list[Part]) -> None:
    """Append `value` to the parts, the last of which is a bytearray that may grow."""
    text = parts[-1]
    assert isinstance(text, bytearray)
    if isinstance(value, msgspec.Struct):
        tag = value.__struct_config__.tag
        text += _array_head(len(value.__struct_fields__) + (tag is not None))
        if tag is not None:
            text += encode(tag)
        for name in value.__struct_fields__:
            _add(getattr(value, name), parts)
    elif isinstance(value, list) and value and isinstance(value[0], msgspec.Struct):
        text += _array_head(len(value))
        for each in value:
            _add(each, parts)
    elif isinstance(value, memoryview) and value.nbytes > COPIED_BYTES:
        if not value.c_contiguous:
            raise BufferError("tensor data must lie in one piece")
        text += struct.pack(">BH", 0xC5, value.nbytes) if value.nbytes < 1 << 16 else _long_head(value.nbytes)
        parts += (value.cast("B"), bytearray())
    else:
        text += encode(value)


def _long_head(nbytes: int) -> bytes:
    if nbytes >= 1 << 32:
        raise OverflowError(f"{nbytes} bytes of tensor data do not fit a message")
    return struct.pack(">BI", 0xC6, nbytes)


def _array_head(length: int) -> bytes:
    if length < 16:
        return struct.pack(">B", 0x90 | length)
    return struct.pack(">BH", 0xDC, length) if length < 1 << 16 else struct.pack(">BI", 0xDD, length)
