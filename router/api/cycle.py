"""One inference request on a connection, and what all connections of a listener share. Parses nothing; see http.py."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from router.api.heads import RequestIds
from router.service.exchange import Exchange
from router.service.handler import Handler
from router.service.head import Head
from router.service.reply import Reply

if TYPE_CHECKING:
    from router.api.http import InferProtocol

STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


class _NoEvent:
    """uvicorn sets its cycle's event on disconnect; nobody waits on ours."""

    def set(self) -> None:
        """Nothing waits."""


_NO_EVENT = _NoEvent()


class DataPlane:
    """What all connections of one listener share."""

    def __init__(self, handler: Handler, request_ids: RequestIds, max_body_bytes: int, version: str) -> None:
        self.handler = handler
        self.request_ids = request_ids
        self.max_body_bytes = max_body_bytes
        self.version = version
        self.leaving = False
        """Set while the replica drains: every reply closes its connection."""


class InferCycle:
    """One inference request on a connection. Stands where uvicorn keeps its own cycle, so that requests of both
    kinds on one connection wait for each other in order."""

    __slots__ = (
        "body", "disconnected", "exchange", "head", "keep_alive", "message_event", "more_body", "protocol",
        "refused", "response_complete",
    )  # fmt: skip

    def __init__(self, protocol: InferProtocol, head: Head, keep_alive: bool) -> None:
        self.protocol = protocol
        self.head = head
        self.keep_alive = keep_alive
        self.body = bytearray()
        self.more_body = True
        self.refused = False
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NO_EVENT
        self.exchange: Exchange | None = None

    def reply(self, reply: Reply) -> None:
        """Write status, headers and body at once and give the connection back."""
        if self.response_complete or self.disconnected:
            return
        self.response_complete = not self.more_body  # a refused request keeps its connection: nothing is read behind it
        protocol = self.protocol
        keep_alive = self.keep_alive and not protocol.plane.leaving and not self.more_body
        close = b"" if keep_alive else b"connection: close\r\n"
        body, more = reply.body, reply.more
        length = len(body) + sum(len(part) for part in more) if more else len(body)
        first = b"%b%bcontent-length: %d\r\n%b\r\n%b" % (STATUS_LINES[reply.status], reply.head, length, close, body)
        if more:
            protocol.transport.writelines((first, *more))
        else:
            protocol.transport.write(first)
        self.exchange = None  # it refers back to this cycle: without this only the garbage collector would free both
        if keep_alive:
            protocol.after_reply()
        elif self.more_body:
            protocol.linger()
        else:
            protocol.transport.close()
