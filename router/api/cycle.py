"""One HTTP request from its headers to its reply; inference is here, the rest in app.py. Parses no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from router.api.coding import MIN_BYTES, ON_LOOP_BYTES, STEP_BYTES, Inflater, compress
from router.api.heads import Framing
from router.api.plane import log
from router.core.errors import RouterError
from router.protocol.codec import Body
from router.service.exchange import Exchange
from router.service.head import Head
from router.service.reply import Reply

if TYPE_CHECKING:
    from router.api.connection import Connection

STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
STATUS_LINES[499] = b"HTTP/1.1 499 Client Closed Request\r\n"


class HttpCycle:
    """One request of a connection. It is started once whole and first in the connection's line.

    It ends exactly once: `reply`, or `drop` because its client has gone. Both give back what its body held.
    """

    __slots__ = (
        "bodiless", "body", "compressed", "ended", "exchange", "framing", "head", "held_bytes", "keep_alive",
        "more_body", "protocol", "refusal", "task",
    )  # fmt: skip

    needs_key: bool
    """Whether it is refused before its body comes, unless its credential proves a tenant."""

    def __init__(self, protocol: Connection, head: Head, framing: Framing, keep_alive: bool) -> None:
        self.protocol = protocol
        self.head = head
        self.framing = framing
        self.keep_alive = keep_alive
        self.body: bytes | bytearray = b""
        self.held_bytes = 0
        self.more_body = True
        self.bodiless = False
        """A HEAD request: the reply ends with its headers."""
        self.compressed = False
        """The reply is, or is being: it is not done twice."""
        self.refusal: RouterError | None = None
        """Why its body is not read; the connection closes after the reply."""
        self.ended = False
        self.exchange: Exchange | None = None
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """It is whole and its turn has come."""
        if self.framing.coding:
            self._inflate()
        else:
            self.run(self.body)

    def run(self, body: Body) -> None:
        """Work on the inflated body until `reply`."""
        raise NotImplementedError

    def drop(self) -> None:
        """The client has gone, and its interest in what is under way with it."""
        if self.ended:
            return
        exchange, task = self.exchange, self.task
        self._end()
        if exchange is not None:
            exchange.cancel()
        if task is not None:
            task.cancel()

    def fail(self, error: RouterError) -> None:
        """Reply that it is refused."""
        self.reply(self.protocol.plane.handler.refused(self.head, error))

    def reply(self, reply: Reply) -> None:
        """Write status, headers and body at once and give the connection back."""
        if self.ended:
            return
        body, more = reply.body, reply.more
        length = len(body) + sum(len(part) for part in more) if more else len(body)
        if self.framing.accepts and length >= MIN_BYTES and not self.compressed:
            self._compress(reply, length)
            return
        protocol = self.protocol
        plane = protocol.plane
        # While the router leaves, the last request of a connection closes it, not one that others wait behind.
        keep_alive = self.keep_alive and not self.more_body and (not plane.leaving or bool(protocol.line))
        close = b"" if keep_alive else b"connection: close\r\n"
        if self.bodiless:
            body, more = b"", ()
        first = b"%b%bcontent-length: %d\r\n%b\r\n%b" % (STATUS_LINES[reply.status], reply.head, length, close, body)
        if more:
            protocol.transport.writelines((first, *more))
        else:
            protocol.transport.write(first)
        self._end()
        if keep_alive:
            protocol.after_reply()
        else:
            protocol.hang_up(linger=self.more_body)

    def go_on(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this until the reply; whatever it raises becomes one."""
        self.task = asyncio.get_running_loop().create_task(self._to_its_end(work))

    async def _to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except RouterError as error:
            self.fail(error)
        except Exception:
            log.exception("request %s: internal error", self.head.request_id)
            self.fail(RouterError("internal", "internal error; the router's log has the details"))

    def hold(self, grown_bytes: int) -> None:
        """Count more of its body. Raises CapacityError where all bodies together are too much."""
        plane = self.protocol.plane
        self.held_bytes += grown_bytes
        plane.held_bytes += grown_bytes
        if plane.held_bytes > plane.max_held_bytes:
            raise plane.no_room()

    def _end(self) -> None:
        self.ended = True
        self.protocol.plane.held_bytes -= self.held_bytes
        self.body = b""
        self.task = None
        self.exchange = None  # it refers back to this cycle: without this only the garbage collector would free both

    def _inflate(self) -> None:
        """A small body at once; of a large one only the start, the rest in a thread."""
        try:
            limit_bytes = self.framing.limit_bytes
            inflater = Inflater(self.framing.coding, self.body, limit_bytes)
            self.hold(inflater.step(ON_LOOP_BYTES))
        except RouterError as error:
            self.fail(error)
            return
        if inflater.done:
            self.run(inflater.out)
        else:
            self.go_on(self._inflate_on(inflater))

    async def _inflate_on(self, inflater: Inflater) -> None:
        """A step at a time, so that many take turns, and none goes on that is too large or that nobody waits for."""
        loop, thread = asyncio.get_running_loop(), self.protocol.plane.inflating
        while not inflater.done:
            self.hold(await loop.run_in_executor(thread, inflater.step, STEP_BYTES))
        self.run(inflater.out)

    def _compress(self, reply: Reply, length: int) -> None:
        self.compressed = True
        if length <= ON_LOOP_BYTES:
            self.reply(self._smaller(reply))
        else:
            self.go_on(self._compress_in_thread(reply))

    def _smaller(self, reply: Reply) -> Reply:
        coding = self.framing.accepts
        lines = b"content-encoding: %b\r\nvary: accept-encoding\r\n" % coding.encode()
        return Reply(reply.status, reply.head + lines, compress(coding, (reply.body, *reply.more)))

    async def _compress_in_thread(self, reply: Reply) -> None:
        loop, thread = asyncio.get_running_loop(), self.protocol.plane.compressing
        self.reply(await loop.run_in_executor(thread, self._smaller, reply))


class InferCycle(HttpCycle):
    """One inference request."""

    __slots__ = ()
    needs_key = True

    def run(self, body: Body) -> None:
        """See HttpCycle.run."""
        self.body = b""
        exchange = self.protocol.plane.handler.start(self.head, body, self.reply)
        if not self.ended:
            self.exchange = exchange
