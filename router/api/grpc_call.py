"""One call of gRPC's, from its headers to its trailers. Decides nothing.

Every call ends exactly once: `reply`, `fail`, or `gone` because nobody waits for it any more. Each gives back what its
message held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf.message import Message

from router.api.coding import ON_LOOP_BYTES, STEP_BYTES, Inflater
from router.api.grpc_wire import HEAD, PREFIX_BYTES, Asked, MessageReader, prefix, status, trailers
from router.api.h2_connection import H2Connection
from router.api.plane import log
from router.core.errors import RequestError, RouterError
from router.protocol.codec import Body
from router.protocol.h2_frames import CANCEL, INTERNAL_ERROR
from router.protocol.h2_sending import Stream
from router.service.head import Head
from router.service.reply import Reply, failed

if TYPE_CHECKING:
    from router.api.grpc_servicer import Servicer

INTERNAL = "internal error; the router's log has the details"
DOCUMENT_BYTES = 64 * 1024
"""The largest message that asks for a document."""
KEYLESS_BYTES = 4 * 1024
"""The largest of a call that needs no key."""

Document = Callable[[Any, "Call"], Message | Awaitable[Message]]
"""Answers one message of a kind with another. Raises RouterError."""


class Method(msgspec.Struct, frozen=True):
    """How calls of one name are served."""

    call: Callable[[Servicer, H2Connection, Stream, Asked, Method], Call]
    limit_bytes: int
    """Of one message, as sent and inflated."""
    needs_key: bool = False
    recorded: bool = False
    """Whether a refusal is a request that ended, and so in the metrics."""
    kind: Any = None
    answer: Document | None = None
    why: str = ""
    """Why it is not offered."""


class Call:
    """What every call has: whose it is, what has come of its message, its end."""

    # As defaults of the class: most calls never touch them.
    held_bytes = 0
    ended = started = False
    """Whether it is over; whether the head of its answer has been written."""
    reader: MessageReader | None = None
    task: asyncio.Task[None] | None = None
    _seen = (-1, 0.0)

    def __init__(
        self, servicer: Servicer, connection: H2Connection, stream: Stream, asked: Asked, method: Method
    ) -> None:
        self.servicer, self.connection, self.stream = servicer, connection, stream
        self.asked, self.method = asked, method
        self.number = asked.own_id or servicer.plane.request_ids.new()
        self.begun_s = servicer.loop.time()

    def data(self, part: bytes, ended: bool) -> None:
        """See StreamOwner."""
        raise NotImplementedError

    def gone(self) -> None:
        """See StreamOwner: nobody waits for the answer. Recorded where nothing was begun that will be."""
        if not self.ended and self.method.recorded and self.is_pending:
            self.servicer.plane.handler.refused(self.head(), RequestError("client_gone", "gone before its message"))
        self.end()

    def sent(self) -> None:
        """See StreamOwner."""

    def closed(self) -> None:
        """See StreamOwner: until then it counts, also where only its client keeps the answer from leaving."""
        self.servicer.count(self.method, -1)

    @property
    def patience_s(self) -> float:
        """How long its client may take for a message or an answer: little without a key."""
        http = self.servicer.plane.http
        return http.body_timeout_s if self.method.needs_key else min(http.head_timeout_s, http.body_timeout_s)

    def check(self, now_s: float) -> None:
        """See StreamOwner: who does not take an answer is waited for no longer than who does not send."""
        stream = self.stream
        if not stream.queued_bytes or self._seen[0] != stream.sent_bytes:
            self._seen = (stream.sent_bytes, now_s)
        elif now_s - self._seen[1] > self.patience_s:
            self.connection.core.reset(stream, CANCEL)
            self.connection.wake()
            self.gone()

    @property
    def is_pending(self) -> bool:
        """Whether a request is coming that no exchange was begun for."""
        return False

    def remaining_s(self) -> float | None:
        """What is left of the call's own deadline, at least 0; None: it has none."""
        timeout_s = self.asked.timeout_s
        return None if timeout_s is None else max(0.0, self.begun_s + timeout_s - self.servicer.loop.time())

    def head(self, model: str = "", version: str = "") -> Head:
        """The head of this call for a document about a model."""
        return self.asked.head_for(model, version, self.number)

    def hold(self, nbytes: int) -> None:
        """Count bytes of a message. Raises CapacityError where all messages together are too much.

        Those of calls without a key are bounded by the number of such calls: they must not take others' room.
        """
        if not self.method.needs_key:
            return
        plane = self.servicer.plane
        self.held_bytes += nbytes
        plane.held_bytes += nbytes
        if plane.held_bytes > plane.max_held_bytes:
            self.connection.answers.make_room()
        if plane.held_bytes > plane.max_held_bytes:
            raise plane.no_room()

    def admit(self, length: int) -> None:
        """Judge the length of a message that is coming. Raises RouterError."""
        if length > self.method.limit_bytes:
            detail = f"the message has {length} bytes, over the limit of {self.method.limit_bytes}"
            raise RequestError("too_large", detail)

    def write(self, message: bytes) -> None:
        """One message of several."""
        core, stream = self.connection.core, self.stream
        if not self.started:
            self.started = True
            core.start(stream, HEAD)
        core.send(stream, (prefix(len(message)), message), PREFIX_BYTES + len(message))
        self.connection.wake()

    def refuse(self, error: RouterError) -> None:
        """End it with this error, recorded where it is a request's end."""
        if self.ended:
            return
        head = self.head()
        refused = self.servicer.plane.handler.refused
        self.fail(refused(head, error) if self.method.recorded else failed(error, head.request_id))

    def fail(self, reply: Reply) -> None:
        """End it with the status of the reply's error."""
        self.finish(trailers(reply))

    def answer(self, body: Sequence[Body], last: bytes) -> None:
        """End it with one message and these trailers, in one piece where that may leave at once."""
        if not self.ended:
            self.end()
            size = sum(map(len, body))
            core = self.connection.core
            core.answer(self.stream, HEAD, (prefix(size), *body), PREFIX_BYTES + size, last)
            self.connection.wake_now()

    def finish(self, last: bytes) -> None:
        """End it with these trailers, behind what was written."""
        if not self.ended:
            self.end()
            self.connection.core.finish(self.stream, last if self.started else HEAD + last)
            self.connection.wake()

    def broken(self) -> None:
        """A fault of ours must not leave a call without an end. To be called where it is caught."""
        log.exception("gRPC: internal error")
        try:
            self.refuse(RouterError("internal", INTERNAL))
        except Exception:
            log.exception("gRPC: internal error while refusing a call")
            if not self.ended:
                self.end()
                self.connection.core.reset(self.stream, INTERNAL_ERROR)
                self.connection.wake()

    def end(self) -> None:
        """Give back what is held."""
        if self.ended:
            return
        self.ended = True
        if self.held_bytes:
            self.servicer.plane.held_bytes -= self.held_bytes
            self.held_bytes = 0
        self.reader = None
        task, self.task = self.task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def go_on(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this as a part of the call, which it ends if it raises, and which ends it."""
        self.task = self.servicer.loop.create_task(self._to_its_end(work))
        self.task.add_done_callback(lambda _: work.close())  # cancelled before its first step it would never be run

    async def _to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except RouterError as error:
            self.refuse(error)
        except Exception:
            self.broken()

    def plain(self, flag: int, message: bytes, then: Callable[[bytes], None]) -> None:
        """Give `then` the message as it was before it was compressed: at once, or a large one from a task."""
        if not flag:
            then(message)
            return
        if flag != 1 or not self.asked.coding:
            known = self.asked.coding is not None
            words = (
                "a compressed message without grpc-encoding" if known else "grpc-encoding: gzip, deflate or identity"
            )
            self.finish(status("INTERNAL" if known else "UNIMPLEMENTED", words))
            return
        inflater = Inflater(self.asked.coding, message, self.method.limit_bytes)
        self.hold(inflater.step(ON_LOOP_BYTES))
        if inflater.done:
            then(bytes(inflater.out))
        else:
            self.go_on(self._inflate(inflater, then))

    async def _inflate(self, inflater: Inflater, then: Callable[[bytes], None]) -> None:
        thread = self.servicer.inflating
        while not inflater.done:
            self.hold(await self.servicer.loop.run_in_executor(thread, inflater.step, STEP_BYTES))
        then(bytes(inflater.out))
