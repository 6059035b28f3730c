"""The HTTP/1.1 protocol of the data listener: bytes to requests, each refused as early as it can be.

llhttp (in httptools) parses. Inference goes from here straight to the handler and its reply leaves in one write; the
rest goes through the ASGI application. Whose turn it is: connection.py. What becomes of a request: cycle.py.
"""

from __future__ import annotations

import logging

import httptools
import msgspec

from router.api.app import MAX_BODY_BYTES, AppCycle
from router.api.connection import HEAD, MAX_LINE, Connection
from router.api.cycle import HttpCycle, InferCycle
from router.api.heads import MAX_URL_BYTES, BadHead, Framing, infer_path, path_of, read_framing, read_head, request_id
from router.api.plane import DataPlane
from router.core.errors import RequestError, RouterError
from router.protocol.oip import JSON
from router.service.handler import NO_KEY
from router.service.head import Head

log = logging.getLogger("pointsman.http")

MAX_HEAD_BYTES = 64 * 1024
SLICE_BYTES = 8192
"""Parsed at once, but for bodies: what is parsed cannot be put back, so this bounds by how much a line overruns."""
_OFFER = frozenset({b"connection", b"upgrade", b"http2-settings"})


class _Refused(Exception):
    """Ends the parser's work on what it was fed: nothing behind a refused request is looked at."""


class _Known(msgspec.Struct):
    """An inference head that a connection repeats, as most clients do: read and judged once."""

    url: bytes
    headers: list[tuple[bytes, bytes]]
    head: Head
    framing: Framing


class InferProtocol(Connection):
    """The reading half of a connection."""

    def __init__(self, plane: DataPlane) -> None:
        super().__init__(plane)
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._part_bytes = 0
        """Of the request that is coming, as far as it took more than one read."""
        self._unread = b""
        self._feeding = False
        self._known: _Known | None = None

    def data_received(self, data: bytes) -> None:
        """Parse what came, no more at a time than the line can take."""
        if len(data) <= SLICE_BYTES and not self._unread:
            self._feed(data)
        else:
            self._unread += data
            self.read_on()

    def read_on(self) -> None:
        """See Connection.read_on."""
        if self._feeding:
            return
        self._feeding = True
        data, self._unread = self._unread, b""
        view, at = memoryview(data), 0
        while at < len(data) and len(self.line) < MAX_LINE and not self.deaf:
            coming = self.receiving
            body_left = coming.framing.length - len(coming.body) if isinstance(coming, HttpCycle) else 0
            part = view[at : at + max(SLICE_BYTES, body_left)]
            at += len(part)
            self._feed(part)
        self._feeding = False
        self._unread = b"" if self.deaf else bytes(view[at:])
        self.resume_reading()

    def _feed(self, data: bytes | memoryview) -> None:
        if self.deaf:
            self.pause_reading()  # nobody looks at what comes behind the last request
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._without_offer(bytes(data[offer.args[0] :]))
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Refused):
                log.error("internal error while reading a request", exc_info=error.__context__)
                self.refuse(RouterError("internal", "internal error; the router's log has the details"))
        except httptools.HttpParserError:
            self.refuse(RequestError("malformed", "what came is not HTTP/1.1"))
        if self.receiving is not None:
            self._bound(len(data))

    def _bound(self, nbytes: int) -> None:
        """Bound a request that took more than one read: its head, and what is in its body but is not body."""
        coming, self._part_bytes = self.receiving, self._part_bytes + nbytes
        if isinstance(coming, HttpCycle):
            # Chunk sizes, their extensions and trailers; small chunks are allowed to be mostly that.
            if coming.framing.chunked and self._part_bytes > 2 * MAX_HEAD_BYTES + 8 * len(coming.body):
                self.refuse(RequestError("headers_too_large", "the chunked body is mostly chunk headers"))
        elif len(self._url) > MAX_URL_BYTES:
            self.refuse(RequestError("uri_too_long", f"the request target is over {MAX_URL_BYTES} bytes"))
        elif self._part_bytes > MAX_HEAD_BYTES:
            self.refuse(RequestError("headers_too_large", f"the headers are over {MAX_HEAD_BYTES} bytes"))

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""
        if self.deaf:
            raise _Refused  # it came in one read with the last one that is answered
        self._url = b""
        self._headers = []
        self.receiving = HEAD
        self.progress += 1
        self._part_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer: those go to a list that nobody reads."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: refuse the request before its body comes, or take it into the line."""
        parser = self._parser
        if parser.should_upgrade():
            return
        headers, self._headers = self._headers, []
        known, version = self._known, parser.get_http_version()
        post, newest = parser.get_method() == b"POST", version == "1.1"
        keep_alive = newest and parser.should_keep_alive()
        cycle: HttpCycle
        if known is not None and post and newest and known.url == self._url and known.headers == headers:
            # The newest one stays known: after a reload it is the one that is judged anew.
            head = known.head = known.head.renewed(self.plane.request_ids.new())
            cycle = InferCycle(self, head, known.framing, keep_alive)
        else:
            cycle = self._new_cycle(headers, version, keep_alive)
        self.receiving = cycle
        self.take(cycle)
        self._admit(cycle)

    def _new_cycle(self, headers: list[tuple[bytes, bytes]], version: str, keep_alive: bool) -> HttpCycle:
        """A request as none before it on this connection. Refuses one that cannot be acted on."""
        plane, method = self.plane, self._parser.get_method()
        head = Head("", "", "")
        try:
            if version not in ("1.1", "1.0"):
                raise BadHead("malformed", "only HTTP/1.1 and HTTP/1.0 are served")
            if len(self._url) > MAX_URL_BYTES:
                raise BadHead("uri_too_long", f"the request target is over {MAX_URL_BYTES} bytes")
            if self._part_bytes and sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES:
                raise BadHead("headers_too_large", f"the headers are over {MAX_HEAD_BYTES} bytes")
            framing = read_framing(headers, version)
            target = infer_path(self._url) if method == b"POST" else None
            if target is None:
                return self._app_cycle(method, headers, framing, keep_alive)
            head = Head(*target, "")
            head = read_head(target, headers, plane.request_ids)
        except RequestError as error:
            head.request_id = request_id(headers, plane.request_ids)
            cycle = InferCycle(self, head, Framing(), keep_alive)
            cycle.bodiless = method == b"HEAD"
            self.refuse(error, cycle)
            raise _Refused from None
        framing.limit_bytes = plane.http.max_body_bytes
        if head.codec is JSON:
            framing.limit_bytes = min(framing.limit_bytes, plane.http.max_json_bytes)
        own_id = any(name == b"x-request-id" for name, _ in headers)
        if version == "1.1" and not own_id:
            self._known = _Known(self._url, headers, head, framing)
        return InferCycle(self, head, framing, keep_alive)

    def _app_cycle(
        self, method: bytes, headers: list[tuple[bytes, bytes]], framing: Framing, keep_alive: bool
    ) -> AppCycle:
        target = path_of(self._url) if self._url != b"*" else self._url
        head = Head("", "", request_id(headers, self.plane.request_ids))
        asks = method == b"POST" and bool(framing.length or framing.chunked)
        if asks:
            head = read_head(("", ""), headers, self.plane.request_ids)  # whose body it is counts
        framing.limit_bytes = MAX_BODY_BYTES
        cycle = AppCycle(self, head, framing, keep_alive)
        cycle.needs_key = asks  # other methods with a body are told that there are none
        cycle.ask(method, target, headers)
        return cycle

    def _admit(self, cycle: HttpCycle) -> None:
        """Judge what a head says of its body before any of it is held."""
        framing, plane = cycle.framing, self.plane
        if cycle.needs_key and not plane.handler.knows(cycle.head):
            # What a stranger sends is not worth holding.
            self._refuse_coming(RequestError("unauthenticated", NO_KEY))
        if framing.length > framing.limit_bytes:
            detail = f"the body has {framing.length} bytes, over the limit of {framing.limit_bytes}"
            self._refuse_coming(RequestError("too_large", detail))
        if plane.held_bytes + framing.length > plane.max_held_bytes:
            self._refuse_coming(plane.no_room())
        if framing.expects:
            self.say_continue(cycle)

    def on_body(self, body: bytes) -> None:
        """Collect the body, up to the limits."""
        cycle, plane = self.receiving, self.plane
        assert cycle is not None
        if not cycle.body:
            cycle.body = body
        else:
            if type(cycle.body) is bytes:
                cycle.body = bytearray(cycle.body)
            cycle.body += body
        cycle.held_bytes += len(body)
        plane.held_bytes += len(body)
        if cycle.held_bytes > cycle.framing.limit_bytes:
            detail = f"the body is over the limit of {cycle.framing.limit_bytes} bytes"
            self._refuse_coming(RequestError("too_large", detail))
        if plane.held_bytes > plane.max_held_bytes:
            self._refuse_coming(plane.no_room())

    def on_message_complete(self) -> None:
        """The request is whole: its turn may have come."""
        cycle = self.receiving
        if cycle is None or cycle is HEAD:  # refused, or to be read anew without its offer to upgrade
            return
        self.receiving = None
        cycle.more_body = False
        if not cycle.keep_alive:
            self.deaf = True  # the last one: what comes behind it is not for us
        if cycle is self.serving:
            cycle.start()

    def _refuse_coming(self, error: RouterError) -> None:
        """Refuse from within the parser."""
        self.refuse(error)
        raise _Refused

    def _without_offer(self, rest: bytes) -> None:
        """An offer to upgrade is declined as HTTP has it, by answering in the version it came in.

        The parser reads neither the body behind an offer nor anything after it, so a new one reads the head again
        without the offer. Java's client offers HTTP/2 with every first request of a connection.
        """
        method, version = self._parser.get_method(), self._parser.get_http_version().encode()
        if method == b"CONNECT":
            self.refuse(RequestError("malformed", "CONNECT is not served"))
            return
        lines = [b"%b %b HTTP/%b" % (method, self._url, version)]
        lines += [b"%b: %b" % header for header in self._headers if header[0] not in _OFFER]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self._headers):
            lines.append(b"connection: close")
        self.receiving = None
        self._parser = httptools.HttpRequestParser(self)
        self._feed(b"\r\n".join([*lines, b"", rest]))
