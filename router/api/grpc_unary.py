"""Calls with one message and one answer: inference, and questions about the server."""

from __future__ import annotations

from collections.abc import Awaitable

from google.protobuf.message import DecodeError, Message

from router.api.grpc_call import Call
from router.api.grpc_wire import OK, PREFIX_BYTES, MessageReader, status, trailers
from router.core.errors import RequestError, RouterError
from router.service.exchange import Exchange
from router.service.reply import Reply

TRANSIT_S = 0.02
"""A call's deadline passes at the client first, by the time it took to arrive here; what is cancelled with no more left
than this has met its deadline."""


class UnaryCall(Call):
    """One message, then its answer."""

    whole = False
    """The message is there."""

    def data(self, part: bytes, ended: bool) -> None:
        """See StreamOwner."""
        if self.ended:
            return
        try:
            self.hold(len(part))
            size = len(part)
            if ended and self.reader is None and size >= PREFIX_BYTES and not part[0]:
                length = int.from_bytes(part[1:PREFIX_BYTES], "big")
                if length == size - PREFIX_BYTES:
                    self.admit(length)
                    self.whole = True
                    self.run(part[PREFIX_BYTES:])
                    return
            self._collect(part, ended)
        except RouterError as error:
            self.refuse(error)
        except Exception:
            self.broken()

    def _collect(self, part: bytes, ended: bool) -> None:
        reader = self.reader = self.reader or MessageReader()
        reader.push(part)
        length = reader.length()
        if length is not None:
            self.admit(length)
            if reader.size_bytes > PREFIX_BYTES + length:
                raise RequestError("malformed", "more than one message in a call that has one")
            plane = self.servicer.plane
            if (
                self.method.needs_key
                and plane.held_bytes + PREFIX_BYTES + length - reader.size_bytes > plane.max_held_bytes
            ):
                raise plane.no_room()
        if ended:
            taken = reader.take()
            if taken is None:
                raise RequestError("malformed", "the call ended without its message")
            self.whole = True
            self.plain(*taken, self.run)

    def check(self, now_s: float) -> None:
        """See StreamOwner: also one whose message does not come."""
        limit_s = self.patience_s
        if not self.whole and now_s - self.begun_s > limit_s:
            self.refuse(RequestError("request_timeout", f"the message took more than {limit_s:g} s"))
        super().check(now_s)

    def run(self, body: bytes) -> None:
        """The message is there."""
        raise NotImplementedError


class InferCall(UnaryCall):
    """One inference."""

    exchange: Exchange | None = None

    @property
    def is_pending(self) -> bool:
        """See Call."""
        return self.exchange is None

    def run(self, body: bytes) -> None:
        """See UnaryCall."""
        exchange, _ = self.servicer.begin(self.asked, self.number, body, self.remaining_s(), self.reply)
        if not self.ended:
            self.exchange = exchange

    def reply(self, reply: Reply) -> None:
        """Answer in one piece."""
        if self.ended:
            return
        if reply.error is not None:
            self.fail(reply)
            return
        self.answer((reply.body, *reply.more), trailers(reply))

    def gone(self) -> None:
        """See Call. Where its deadline passed, the exchange's own ends it and is counted."""
        exchange = self.exchange
        super().gone()
        abandon(exchange, self.remaining_s())

    def end(self) -> None:
        """See Call."""
        super().end()
        self.exchange = None  # it refers back to this call


class DocumentCall(UnaryCall):
    """One question, answered by a message that says something of the server, or by why it is not offered."""

    def run(self, body: bytes) -> None:
        """See UnaryCall."""
        method = self.method
        if method.answer is None:
            self.finish(status("UNIMPLEMENTED", method.why))
            return
        try:
            said = method.answer(method.kind.FromString(body), self)
        except DecodeError as error:
            raise RequestError("malformed", f"the message cannot be read: {error}") from None
        if isinstance(said, Message):
            self._answer(said)
        else:
            self.go_on(self._answer_later(said))

    async def _answer_later(self, said: Awaitable[Message]) -> None:
        self._answer(await said)

    def _answer(self, message: Message) -> None:
        self.answer((message.SerializeToString(),), OK)


def abandon(exchange: Exchange | None, remaining_s: float | None) -> None:
    """The call has ended without this reply. Where its deadline passed, the exchange's own ends it and is counted."""
    if exchange is not None and (remaining_s is None or remaining_s > TRANSIT_S):
        exchange.cancel()
