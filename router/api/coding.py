"""Content codings: gzip and deflate of request bodies and of answers. Bytes to bytes; knows no connection.

Sizes are bounded while they grow: what a stream would come to is never found out by inflating all of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from router.core.errors import RequestError
from router.protocol.codec import Body

ACCEPTED = "gzip, deflate"
MIN_BYTES = 2048
"""Answers below this stay as they are: two packets at most, and to compress them takes as long as to make them."""
ON_LOOP_BYTES = 16 * 1024
"""What is compressed or inflated on the event loop, about 0.1 ms of it; the rest goes to a thread."""
STEP_BYTES = 1024 * 1024
"""Inflated between two looks at the bounds; about 3 ms of a thread."""
_PIECE_BYTES = 64 * 1024
_WINDOW = {"gzip": 31, "deflate": 15}
_NAMES = {b"gzip": "gzip", b"x-gzip": "gzip", b"deflate": "deflate", b"identity": "", b"": ""}


def coding_of(values: list[bytes]) -> str:
    """The one coding of a request body from its Content-Encoding headers, "" for none. Raises RequestError."""
    coding = _NAMES.get(b",".join(values).strip().lower())
    if coding is None:
        raise RequestError("unsupported_media_type", f"content-encoding: one of {ACCEPTED}, once, or none")
    return coding


def acceptable(values: list[bytes]) -> str:
    """The coding of answers that Accept-Encoding headers like best: gzip, deflate or "" for none of them.

    A tie goes to gzip, and a wish that cannot be met to no coding at all.
    """
    weights: dict[str, float] = {}
    other = 0.0
    for item in b",".join(values).lower().split(b","):
        name, _, parameters = item.partition(b";")
        weight = _weight(parameters)
        if name.strip() == b"*":
            other = weight
        elif name.strip() and (known := _NAMES.get(name.strip())) is not None:
            weights[known] = weight
    best, best_weight = "", weights.get("", 0.0)
    for coding in ("gzip", "deflate"):
        weight = weights.get(coding, other)
        if weight > best_weight or (weight == best_weight > 0.0 and not best):
            best, best_weight = coding, weight
    return best


def _weight(parameters: bytes) -> float:
    name, _, value = parameters.strip().partition(b"=")
    if name.strip() != b"q":
        return 1.0
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0


def compress(coding: str, parts: Iterable[Body]) -> bytes:
    """The parts as one body in this coding. Fast rather than small: tensors as text halve at any level."""
    machine = zlib.compressobj(1, zlib.DEFLATED, _WINDOW[coding])
    return b"".join([*map(machine.compress, parts), machine.flush()])


class Inflater:
    """One compressed body on its way back, a bounded step at a time; a step may run in any thread."""

    def __init__(self, coding: str, data: Body, limit_bytes: int) -> None:
        self.out = bytearray()
        self.done = False
        self._data = memoryview(data)
        self._at = 0
        self._tail: Body = b""
        self._limit_bytes = limit_bytes
        window = _WINDOW[coding]
        if coding == "deflate" and not _has_zlib_header(self._data):
            window = -15  # the name is given to both forms, and clients send both
        self._machine = zlib.decompressobj(window)

    def step(self, room_bytes: int) -> int:
        """Inflate at most `room_bytes` more; returns by how much `out` grew.

        Raises RequestError: malformed (no such stream, cut short, more behind it), too_large.
        """
        before = len(self.out)
        room_bytes = min(room_bytes, self._limit_bytes + 1 - before)
        try:
            self._inflate(before + room_bytes)
        except zlib.error:
            raise RequestError("malformed", "the body is not in the encoding that its content-encoding names") from None
        if len(self.out) > self._limit_bytes:
            raise RequestError("too_large", f"the body is over the limit of {self._limit_bytes} bytes once inflated")
        return len(self.out) - before

    def _inflate(self, until_bytes: int) -> None:
        machine, out = self._machine, self.out
        while len(out) < until_bytes and not machine.eof:
            at_end = self._at >= len(self._data)
            if not self._tail:
                self._tail = self._data[self._at : self._at + _PIECE_BYTES]
                self._at += len(self._tail)
            piece = machine.decompress(self._tail, until_bytes - len(out))
            self._tail = machine.unconsumed_tail
            out += piece
            if at_end and not piece and not machine.eof:
                raise RequestError("malformed", "the compressed body is cut short")
        if machine.eof:
            if machine.unused_data or self._at < len(self._data):
                raise RequestError("malformed", "there is more behind the end of the compressed body")
            self.done = True


def _has_zlib_header(data: memoryview) -> bool:
    return len(data) >= 2 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
