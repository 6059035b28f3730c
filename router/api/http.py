"""The HTTP/1.1 protocol of the data listener: uvicorn's, with inference requests taken out of the ASGI path.

An inference request goes from the parser straight to the handler and its reply leaves in one socket write; without
this, building an ASGI scope, a task and two writes cost more than parsing, deciding and sending together. Everything
else (health, metadata, explain, what a client pipelines behind a request) takes uvicorn's own way to the ASGI app.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from router.api.cycle import DataPlane, InferCycle
from router.api.heads import BadHead, infer_path, read_head, request_id
from router.core.errors import RequestError
from router.service.handler import NO_KEY
from router.service.head import Head

MAX_HEAD_BYTES = 64 * 1024
KEEP_ALIVE_S = 75.0
BODY_S = 30.0
LINGER_S = 2.0
"""How long the rest of a refused body is read and thrown away, so that the client sees the reply, not a reset."""


class _Deaf:
    """Stands where the parser was on a connection that is read no further."""

    def feed_data(self, data: bytes) -> None:
        """Drop it."""


_DEAF: Any = _Deaf()
_OFFER = frozenset({b"connection", b"upgrade", b"http2-settings"})


class InferProtocol(HttpToolsProtocol):
    """One connection of the data listener."""

    plane: DataPlane
    _infer: InferCycle | None = None
    """The last inference request of the connection; `cycle` may already be one pipelined behind it."""
    idle_since_s = 0.0
    """Loop time of the last reply, or of the connection's start. One sweep closes what is idle for too long; a timer
    armed and cancelled around every request would cost more than all of its headers."""
    _known: tuple[bytes, list[tuple[bytes, bytes]], Head, int] | None = None
    """URL, headers, head and body length of an earlier request of this connection."""
    paused_at_s = 0.0
    """Loop time since when the client has not read its answers; 0 while it does."""
    head_at_s = 0.0
    """Loop time at which the last request's head was whole."""
    _head_bytes = 0
    """Received since the parser last gave a head or a part of a body; a read may hold more than that."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self.idle_since_s = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Parse what came. What can never be a request is answered once and read no further."""
        self._unset_keepalive_if_required()
        self._head_bytes += len(data)
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as offer:
                data = self._without_offer(data[offer.args[0] :])
            except httptools.HttpParserError:
                self._refuse_bytes("malformed", "what came is not HTTP/1.1")
                break
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_bytes("headers_too_large", f"the request line and headers are over {MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """A request begins; what only the ASGI path needs is made there."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Route an inference POST to the handler, everything else to uvicorn."""
        self._head_bytes = 0
        self.head_at_s = self.loop.time()
        if self.parser.should_upgrade():
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self.parser.get_method() != b"POST" or (target := self._target()) is None:
            self._to_asgi()
            return
        plane = self.plane
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        try:
            head, length = self._read_head(target)
        except BadHead as error:
            head = Head(target[0], target[1], request_id(self.headers, plane.request_ids))
            self._refuse(self._begin(head, keep_alive), error.reason, error.detail)
            return
        cycle = self._begin(head, keep_alive)
        if not plane.handler.knows(head):
            # Before its body: what a stranger sends is not worth holding.
            self._refuse(cycle, "unauthenticated", NO_KEY)
            return
        if length > plane.max_body_bytes:
            self._refuse(cycle, "too_large", f"the body has {length} bytes, the limit is {plane.max_body_bytes}")
        elif self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect the body of an inference request, up to the limit."""
        self._head_bytes = 0
        cycle: Any = self.cycle
        if type(cycle) is not InferCycle:
            super().on_body(body)
            return
        if cycle.refused:
            return
        cycle.body += body
        if len(cycle.body) > self.plane.max_body_bytes:
            cycle.body = bytearray()
            self._refuse(cycle, "too_large", f"the body is over the limit of {self.plane.max_body_bytes} bytes")

    def on_message_complete(self) -> None:
        """The request is whole: start the exchange."""
        cycle: Any = self.cycle
        if self.parser.should_upgrade():
            return
        if type(cycle) is not InferCycle:
            super().on_message_complete()
            return
        cycle.more_body = False
        if cycle.refused:
            self.transport.close()
            return
        cycle.exchange = self.plane.handler.start(cycle.head, cycle.body, cycle.reply)
        cycle.body = bytearray()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone: so has its interest in what is under way."""
        cycle = self._infer
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            if cycle.exchange is not None:
                cycle.exchange.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads too slowly: take no more requests of it, or its answers would pile up here."""
        super().pause_writing()
        self.paused_at_s = self.loop.time()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self.paused_at_s = 0.0
        self.flow.resume_reading()

    def after_reply(self) -> None:
        """The connection is free for its next request, which may be waiting already."""
        if self.pipeline:
            self.on_response_complete()
        else:
            self.idle_since_s = self.loop.time()

    def is_overdue(self, now_s: float) -> bool:
        """Idle for KEEP_ALIVE_S (a part of a head is no life), or a body not sent or answers not read for BODY_S."""
        if self.paused_at_s and now_s - self.paused_at_s > BODY_S:
            return True
        if self.is_idle():
            return now_s - self.idle_since_s > KEEP_ALIVE_S
        return bool(self.cycle.more_body) and now_s - self.head_at_s > BODY_S

    def is_idle(self) -> bool:
        """No request is under way, not even a part of one."""
        return self.cycle is None or self.cycle.response_complete

    def _to_asgi(self) -> None:
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)  # the scope refers to this very list
        super().on_headers_complete()

    def _target(self) -> tuple[str, str] | None:
        """(model, version) where the URL is an inference one."""
        known = self._known
        return (
            (known[2].model, known[2].version) if known is not None and known[0] == self.url else infer_path(self.url)
        )

    def _read_head(self, target: tuple[str, str]) -> tuple[Head, int]:
        """The head of this request; what a connection repeats, as most clients do, is read and judged once."""
        known, ids = self._known, self.plane.request_ids
        if known is not None and known[0] == self.url and known[1] == self.headers:
            head = known[2].renewed(ids.new())
            # The newest one stays known: after a reload it is the one that is judged anew.
            self._known = (known[0], known[1], head, known[3])
            return head, known[3]
        head, length = read_head(target, self.headers, ids)
        own_id = any(name == b"x-request-id" for name, _ in self.headers)
        self._known = None if own_id else (self.url, self.headers, head, length)
        return head, length

    def linger(self) -> None:
        """Say that nothing more will come, read and drop what the client still sends, for a while, then close."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _begin(self, head: Head, keep_alive: bool) -> InferCycle:
        cycle = InferCycle(self, head, keep_alive)
        self.cycle = self._infer = cycle  # type: ignore[assignment]
        return cycle

    def _refuse(self, cycle: InferCycle, reason: str, detail: str) -> None:
        """Answer before the body was read; the connection cannot be used again."""
        cycle.refused = True
        cycle.reply(self.plane.handler.refused(cycle.head, RequestError(reason, detail)))

    def _refuse_bytes(self, reason: str, detail: str) -> None:
        """Answer what never became a request. Behind one still under way it would pass for that one's answer."""
        if self.parser is _DEAF or self.transport.is_closing():
            return
        self.parser = _DEAF
        cycle: Any = self.cycle
        if self.is_idle():
            cycle = self._begin(Head("", "", self.plane.request_ids.new()), False)
        if type(cycle) is not InferCycle or not cycle.more_body:
            self.transport.close()
        elif not cycle.refused:
            self._refuse(cycle, reason, detail)

    def _without_offer(self, rest: bytes) -> bytes:
        """An offer to upgrade is declined as HTTP has it, by answering in HTTP/1.1. Returns the bytes to go on with.

        The parser reads neither the body behind an offer nor anything after it, so a new one reads the head again
        without the offer. Java's client offers HTTP/2 with every first request of a connection.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse_bytes("malformed", "CONNECT is not served")
            return b""
        lines = [b"%s %s HTTP/1.1" % (method, self.url)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] not in _OFFER]
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*lines, b"", rest])


def protocol_class(plane: DataPlane) -> type[asyncio.Protocol]:
    """The protocol bound to one data plane, as uvicorn's Config wants it."""
    return type("BoundInferProtocol", (InferProtocol,), {"plane": plane})
