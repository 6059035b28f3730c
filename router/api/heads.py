"""Reads the request line and headers of an inference request. Bytes to values; decides nothing.

A header the router acts on may come once only: where two copies disagree, someone between client and router was
fooled, and the request is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

import msgspec

from router.api.coding import acceptable, coding_of
from router.core.errors import RequestError
from router.protocol.oip import OipCodec
from router.protocol.oip_binary import JSON_LENGTH
from router.service.head import Head

_PREFIX = b"/v2/models/"
_LENGTH = re.compile(rb"[0-9]{1,18}\Z")
_NO_KEY = "-"
"""Stands for a credential that is no key: nobody has it. Only where none was shown at all it is ""."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}\Z")
MAX_HEADERS = 100
MAX_URL_BYTES = 8 * 1024
_JSON_LENGTH = JSON_LENGTH.encode()

_FIELDS = {
    b"authorization": "credential",
    b"x-api-key": "credential",
    b"x-request-id": "request_id",
    b"x-pointsman-timeout": "timeout",
    b"x-pointsman-latency-target": "latency_target",
    b"x-pointsman-priority": "priority",
    b"x-pointsman-only-accelerator": "only_accelerator",
    b"x-pointsman-only-region": "only_region",
    b"x-pointsman-only-emulated": "only_emulated",
    b"x-pointsman-hops": "hops",
    _JSON_LENGTH: "json_length",
}


class BadHead(RequestError):
    """A request line or header that cannot be acted on."""


class RequestIds:
    """Ids for requests that bring none: a random prefix per process and a count."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._count = 0

    def new(self) -> str:
        """Unique within the fleet as far as the prefix is."""
        self._count += 1
        return f"{self._prefix}-{self._count:x}"


class Framing(msgspec.Struct):
    """How the body of a request comes, and in which coding its answer may go."""

    limit_bytes: int = 0
    """Of the body, as sent and as inflated."""
    length: int = 0
    """Declared; 0 where the body is chunked."""
    chunked: bool = False
    expects: bool = False
    """The client waits for `100 Continue` before it sends the body."""
    coding: str = ""
    """Of the body: gzip, deflate or none."""
    accepts: str = ""
    """For the answer: gzip, deflate or none."""


def infer_path(url: bytes) -> tuple[str, str] | None:
    """(model, version) of an inference URL, version "" where it names none; None for any other URL.

    A slash that is percent-encoded is a part of a name, never a separator.
    """
    if not url.startswith(_PREFIX):
        if url.startswith(b"/") and b"%" not in url:
            return None
        url = path_of(url)
    path = url.partition(b"?")[0]
    parts = path.split(b"/")
    if b"%" in path:
        parts = [unquote_to_bytes(part) for part in parts]
    if parts[:3] != [b"", b"v2", b"models"] or parts[-1] != b"infer" or not all(parts[3:]):
        return None
    if len(parts) == 5:
        return _text(parts[3]), ""
    if len(parts) == 7 and parts[4] == b"versions":
        return _text(parts[3]), _text(parts[5])
    return None


def path_of(url: bytes) -> bytes:
    """Path and query of a request target, still percent-encoded. Raises BadHead for one that HTTP does not know."""
    if b"#" in url:
        raise BadHead("malformed", "the request target has a fragment")
    if url.startswith(b"/"):
        return url
    scheme, _, rest = url.partition(b"://")
    if scheme.lower() not in (b"http", b"https") or not rest or rest.startswith(b"/"):
        raise BadHead("malformed", "the request target is neither a path nor an absolute http URL")
    at = min((found for mark in b"/?" if (found := rest.find(mark)) >= 0), default=len(rest))
    path = rest[at:]
    return path if path.startswith(b"/") else b"/" + path


def read_framing(headers: list[tuple[bytes, bytes]], http_version: str) -> Framing:
    """How the body comes, after all that the parser lets pass and that two servers might read differently.

    Raises BadHead: more than one Host or none, a transfer coding other than `chunked`, an unknown content coding.
    """
    if len(headers) > MAX_HEADERS:
        raise BadHead("headers_too_large", f"more than {MAX_HEADERS} headers")
    framing = Framing()
    hosts = 0
    codings: list[bytes] = []
    accepted: list[bytes] = []
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            framing.length = int(value)
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked" or http_version != "1.1":
                raise BadHead("malformed", "transfer-encoding: only `chunked`, and only in HTTP/1.1")
            framing.chunked = True
        elif name == b"expect":
            framing.expects = value.lower() == b"100-continue" and http_version == "1.1"
        elif name == b"content-encoding":
            codings.append(value)
        elif name == b"accept-encoding":
            accepted.append(value)
    if hosts > 1 or (http_version == "1.1" and not hosts):
        raise BadHead("malformed", "exactly one host header is needed")
    if codings:
        framing.coding = coding_of(codings)
    if accepted:
        framing.accepts = acceptable(accepted)
    return framing


def read_head(target: tuple[str, str], headers: list[tuple[bytes, bytes]], ids: RequestIds) -> Head:
    """The head of an inference request. Raises BadHead."""
    if len(headers) > MAX_HEADERS:
        raise BadHead("headers_too_large", f"more than {MAX_HEADERS} headers")
    found: dict[str, str] = {}
    for name, value in headers:
        field = _FIELDS.get(name)
        if field is not None:
            if field in found:
                raise BadHead(
                    "malformed", f"the header {name.decode('latin-1')} (or one that means the same) is given twice"
                )
            found[field] = _value(name, value)
    field_of = found.get
    head = Head(
        target[0], target[1], field_of("request_id") or ids.new(), field_of("credential", ""), field_of("timeout", ""),
        field_of("latency_target", ""), field_of("priority", ""),
    )  # fmt: skip
    head.only_accelerator, head.only_region = field_of("only_accelerator"), field_of("only_region")
    head.only_emulated = field_of("only_emulated")
    head.hops = field_of("hops", "")
    if "json_length" in found:
        head.codec = OipCodec(int(found["json_length"]))
    return head


def request_id(headers: Iterable[tuple[bytes, bytes]], ids: RequestIds) -> str:
    """The client's id where it sent a good one, else a new one: for what is refused whatever its headers say."""
    given = [value for name, value in headers if name == b"x-request-id"]
    return given[0].decode() if len(given) == 1 and _REQUEST_ID.match(given[0]) else ids.new()


def _value(name: bytes, value: bytes) -> str:
    if name == b"authorization":
        scheme, _, key = value.partition(b" ")
        return key.strip().decode("latin-1") or _NO_KEY if scheme.lower() == b"bearer" else _NO_KEY
    if name == b"x-api-key" and not value:
        return _NO_KEY
    if name == b"x-request-id" and not _REQUEST_ID.match(value):
        raise BadHead("malformed", "x-request-id: up to 128 of letters, digits and . _ : / + = -")
    if name == _JSON_LENGTH and not _LENGTH.match(value):
        raise BadHead("malformed", f"{JSON_LENGTH}: bytes of JSON in the body, a whole number")
    return value.decode("latin-1")


def _text(part: bytes) -> str:
    return part.decode(errors="replace")
