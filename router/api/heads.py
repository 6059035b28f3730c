"""Reads the request line and headers of an inference request. Bytes to values; decides nothing.

A header the router acts on may come once only: where two copies disagree, someone between client and router was
fooled, and the request is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from router.core.errors import RequestError
from router.protocol.oip import OipCodec
from router.protocol.oip_binary import JSON_LENGTH
from router.service.head import Head

_PREFIX = b"/v2/models/"
_SUFFIX = b"/infer"
_LENGTH = re.compile(rb"[0-9]{1,18}\Z")
_NO_KEY = "-"
"""Stands for a credential that is no key: nobody has it. Only where none was shown at all it is ""."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}\Z")
MAX_HEADERS = 100
_JSON_LENGTH = JSON_LENGTH.encode()

_FIELDS = {
    b"authorization": "credential",
    b"x-api-key": "credential",
    b"x-request-id": "request_id",
    b"x-pointsman-timeout": "timeout",
    b"x-pointsman-latency-target": "latency_target",
    b"x-pointsman-priority": "priority",
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


def infer_path(url: bytes) -> tuple[str, str] | None:
    """(model, version) of an inference URL, version "" where it names none; None for any other URL."""
    if not url.startswith(_PREFIX):
        return None
    path = url.partition(b"?")[0]
    if not path.endswith(_SUFFIX):
        return None
    parts = path[len(_PREFIX) : -len(_SUFFIX)].split(b"/")
    if len(parts) == 1 and parts[0]:
        return _text(parts[0]), ""
    if len(parts) == 3 and parts[1] == b"versions" and parts[0] and parts[2]:
        return _text(parts[0]), _text(parts[2])
    return None


def read_head(target: tuple[str, str], headers: list[tuple[bytes, bytes]], ids: RequestIds) -> tuple[Head, int]:
    """The head of an inference request and its declared length (0 where the body is chunked). Raises BadHead."""
    if len(headers) > MAX_HEADERS:
        raise BadHead("headers_too_large", f"more than {MAX_HEADERS} headers")
    found: dict[str, str] = {}
    length = 0
    for name, value in headers:
        field = _FIELDS.get(name)
        if field is not None:
            if field in found:
                raise BadHead(
                    "malformed", f"the header {name.decode('latin-1')} (or one that means the same) is given twice"
                )
            found[field] = _value(name, value)
        elif name == b"content-length":
            length = int(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise BadHead("unsupported_media_type", "compressed bodies are not accepted")
    field_of = found.get
    head = Head(
        target[0], target[1], field_of("request_id") or ids.new(), field_of("credential", ""), field_of("timeout", ""),
        field_of("latency_target", ""), field_of("priority", ""),
    )  # fmt: skip
    if "json_length" in found:
        head.codec = OipCodec(int(found["json_length"]))
    return head, length


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
    text = part.decode("latin-1")
    return unquote(text) if "%" in text else text
