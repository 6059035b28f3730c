"""Between gRPC's calls and the handler's values: headers and messages in, trailers and status out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from router.api.coding import ACCEPTED
from router.api.heads import MAX_HEADERS, RequestIds, read_head, request_id
from router.core.errors import RequestError
from router.protocol.h2_fields import MAX_LIST_BYTES, Block, Fields
from router.protocol.h2_frames import field, fields
from router.protocol.oip_binary import JSON_LENGTH
from router.protocol.problem import problem
from router.service.head import Head
from router.service.reply import Failure, Reply

if TYPE_CHECKING:
    from router.api.grpc_call import Method

PREFIX_BYTES = 5
"""Before every message: whether it is compressed, and its length."""
MAX_DETAILS = 1024
"""Characters. They travel in a header, percent-encoded, and clients bound the size of their headers."""
STATUS = {
    name: number
    for number, name in enumerate(
        (
            "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
            "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
            "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
        )
    )
}  # fmt: skip

_HTTP_ONLY = frozenset({b"content-type", b"www-authenticate"})
_FRAMING = frozenset(
    {b"content-length", b"content-encoding", b"accept-encoding", b"host", b"expect", b"te", b"trailer",
     JSON_LENGTH.encode()}
)  # fmt: skip
"""What says over HTTP how a body comes. gRPC has its own; here nobody has looked at what they hold."""
_STATUS_200 = b"\x88"
_TYPES = frozenset({b"application/grpc", b"application/grpc+proto"})
_TYPE = field(b"content-type", b"application/grpc")
HEAD = _STATUS_200 + _TYPE + field(b"grpc-accept-encoding", b"identity, " + ACCEPTED.encode())
"""What every answer starts with."""
OK = field(b"grpc-status", b"0")
_CODINGS = {b"": "", b"identity": "", b"gzip": "gzip", b"deflate": "deflate"}
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])\Z")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class Asked(msgspec.Struct):
    """What the headers of a call ask for. A client repeats them, so that they are read once a connection."""

    method: Method | None = None
    head: Head = msgspec.field(default_factory=lambda: Head("", "", ""))
    """Of the last request with them, without its codec; it may know its terms."""
    own_id: str = ""
    """The id that the client gave."""
    timeout_s: float | None = None
    coding: str | None = ""
    """Of compressed messages; None: one that nobody here knows."""
    refusal: tuple[str, str] | None = None
    """Reason and detail. Not the error itself: raised again and again it would keep a traceback of every call."""
    answer: bytes = b""
    """The block that ends a call which is none of ours."""

    def head_for(self, model: str, version: str, number: str) -> Head:
        """The head of one request for this model. Where the last one was for it too, its terms hold."""
        known = self.head
        head = known.renewed(number)
        if (known.model, known.version) != (model, version):
            head.model, head.version, head.terms = model, version, None
        return head

    def remember(self, head: Head) -> None:
        """Keep what was made of it, but not the message."""
        self.head.model, self.head.version, self.head.terms = head.model, head.version, head.terms


def read_call(block: Block, methods: Mapping[bytes, Method], ids: RequestIds) -> Asked:
    """What a header block asks for; what is wrong with it is a part of that."""
    headers = {name: value for name, value in block.rest if name in (b"content-type", b"grpc-encoding")}
    if block.pseudo[b":method"] != b"POST":
        return Asked(answer=_http_status(405) + fields([(b"allow", b"POST")]))
    if headers.get(b"content-type", b"").partition(b";")[0].strip() not in _TYPES:
        return Asked(answer=_http_status(415))
    method = methods.get(block.pseudo[b":path"])
    if method is None:
        return Asked(answer=HEAD + status("UNIMPLEMENTED", "no such method"))
    asked = Asked(method)
    try:
        if block.size_bytes > MAX_LIST_BYTES:
            raise RequestError("headers_too_large", f"the headers are over {MAX_LIST_BYTES} bytes")
        if len(block.rest) > MAX_HEADERS:
            raise RequestError("headers_too_large", f"more than {MAX_HEADERS} headers")
        given = _headers(block.rest)
        asked.head.request_id = request_id(given, ids)
        if any(name == b"x-request-id" for name, _ in given):
            asked.own_id = asked.head.request_id
        asked.timeout_s = _timeout_s(block.rest)
        asked.coding = _CODINGS.get(headers.get(b"grpc-encoding", b""))
        if method.needs_key:
            asked.head = read_head(("", ""), given, ids)
    except RequestError as error:
        asked.refusal = error.reason, error.detail
    return asked


def trailers(reply: Reply) -> bytes:
    """Status and trailing metadata: what the headers of an HTTP reply say, and of an error its reason.

    `grpc-retry-pushback-ms` is how gRPC's own retries are told to wait.
    """
    of_the_pool, mark, of_the_request = reply.head.partition(b"x-request-id: ")
    said = _pool_block(of_the_pool) + _block(mark + of_the_request)
    error = reply.error
    if error is None:
        return OK + said
    said += field(b"x-pointsman-reason", error.reason.encode())
    if error.retry_after_s is not None:
        wait_ms = max(1, round(error.retry_after_s * 1e3))
        said += field(b"grpc-retry-pushback-ms", b"%d" % wait_ms)
    return status(problem(error.reason).grpc, details(error)) + said


def status(name: str, words: str) -> bytes:
    """The fields of a status that is not OK."""
    message = quote(words.strip(), safe=_PRINTABLE).encode()
    return fields([(b"grpc-status", b"%d" % STATUS[name]), (b"grpc-message", message)])


def details(error: Failure) -> str:
    """The words of a status, fit for the wire."""
    return error.detail.encode(errors="replace").decode()[:MAX_DETAILS]


def prefix(length: int) -> bytes:
    """What goes before a message of so many bytes."""
    return b"\0" + length.to_bytes(4, "big")


def _block(lines: bytes) -> bytes:
    """Header lines of HTTP's as a part of a header block."""
    found = [line.split(b": ", 1) for line in lines.split(b"\r\n") if line]
    return b"".join([field(name, value) for name, value in found if name not in _HTTP_ONLY])


@lru_cache(64)
def _pool_block(lines: bytes) -> bytes:
    """The lines that are the same for every answer of a pool."""
    return _block(lines)


def _http_status(code: int) -> bytes:
    return b"\x08\x03%d" % code


def _headers(given: Fields) -> Fields:
    """As HTTP headers, without those that frame a body and those that are binary: none is read."""
    return [(name, value) for name, value in given if name not in _FRAMING and not name.endswith(b"-bin")]


def _timeout_s(given: Fields) -> float | None:
    """The call's own deadline, from its start. Raises RequestError."""
    found = [value for name, value in given if name == b"grpc-timeout"]
    if not found:
        return None
    match = _TIMEOUT.match(found[0])
    if match is None or len(found) > 1:
        raise RequestError("malformed", "grpc-timeout: up to 8 digits and one of H M S m u n, once")
    return int(match[1]) * _UNIT_S[match[2]]


class MessageReader:
    """Cuts what comes on one stream into messages."""

    __slots__ = ("_at", "_parts", "size_bytes")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0
        """Where the next message begins in the first part."""
        self.size_bytes = 0
        """Of what has come and was not taken."""

    def push(self, part: bytes) -> None:
        """More has come."""
        if part:
            self._parts.append(part)
            self.size_bytes += len(part)

    def length(self) -> int | None:
        """Bytes of the next message, None until that is known."""
        if self.size_bytes < PREFIX_BYTES:
            return None
        if len(self._parts[0]) < self._at + PREFIX_BYTES:
            self._join()
        return int.from_bytes(self._parts[0][self._at + 1 : self._at + PREFIX_BYTES], "big")

    def take(self) -> tuple[int, bytes] | None:
        """The next message and its flag of compression, None until it is whole."""
        length = self.length()
        if length is None or self.size_bytes < PREFIX_BYTES + length:
            return None
        start = self._at + PREFIX_BYTES
        if len(self._parts[0]) < start + length:
            self._join()
            start = PREFIX_BYTES
        data = self._parts[0]
        flag, message = data[start - PREFIX_BYTES], data[start : start + length]
        self._at = start + length
        self.size_bytes -= PREFIX_BYTES + length
        if self._at == len(data):
            del self._parts[0]
            self._at = 0
        return flag, message

    def _join(self) -> None:
        first, *more = self._parts
        self._parts = [b"".join((memoryview(first)[self._at :], *more))]
        self._at = 0
