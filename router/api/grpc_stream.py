"""One bidirectional stream of inference requests. Owns what is under way on it.

Requests run side by side; answers leave in the order of their requests, each with its request's id. One request's error
is its answer and leaves the stream open.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from router.api.grpc_call import Call
from router.api.grpc_unary import abandon
from router.api.grpc_wire import OK, MessageReader, details, trailers
from router.core.errors import CapacityError, RequestError, RouterError
from router.protocol import oip_grpc
from router.service.exchange import Exchange
from router.service.reply import Reply, failed

STREAM_REQUESTS = 128
"""Requests of one stream under way at once; what a client sends beyond that waits in its connection."""
PER_TURN = 64
"""Begun in one turn of the loop."""
MAX_UNREAD_BYTES = 1024 * 1024
"""Answers that the client has not taken: beyond it the others wait, and so do its requests."""


class InStream:
    """One request of a stream."""

    __slots__ = ("_stream", "answer_bytes", "exchange", "held_bytes", "message", "reply")

    def __init__(self, stream: InferStream, held_bytes: int) -> None:
        self._stream = stream
        self.held_bytes = held_bytes
        self.answer_bytes = 0
        self.message: Any = None
        self.exchange: Exchange | None = None
        self.reply: Reply | None = None

    def answered(self, reply: Reply) -> None:
        """Its reply is there; its turn to be sent may not be."""
        stream = self._stream
        if stream.ended:
            return
        self.reply, self.exchange = reply, None
        self.answer_bytes = len(reply.body) + sum(map(len, reply.more))
        stream.go_on_soon()
        stream.count_waiting(self.answer_bytes)

    def text(self) -> bytes:
        """Its answer as a message of the stream."""
        reply = self.reply
        assert reply is not None
        if reply.error is not None:
            return oip_grpc.stream_error(self.message, reply.error.reason, details(reply.error))
        return oip_grpc.stream_answer(b"".join((reply.body, *reply.more)))


class InferStream(Call):
    """Until the client has sent its last request, or `stop_reading`, and all are answered."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self._asked: deque[InStream] = deque()
        self._turning = self._inflating = self._stopped = False
        self._asked_bytes = 0
        self._last: bytes | None = None
        """The trailers that follow once all that was begun is answered."""
        self._taken = 0
        self._begun_message = (-1, 0.0)
        self.reader = MessageReader()
        self.servicer.streams.add(self)
        self._timer: asyncio.TimerHandle | None = None
        if (remaining_s := self.remaining_s()) is not None:
            self._timer = self.servicer.loop.call_later(remaining_s, self._on_deadline)

    def data(self, part: bytes, ended: bool) -> None:
        """See StreamOwner."""
        if self.ended or self._last is not None:
            return
        try:
            assert self.reader is not None
            self.reader.push(part)
            self.hold(len(part))
        except RouterError as error:
            self.refuse(error)
        else:
            self._go_on()

    def sent(self) -> None:
        """See StreamOwner: there is room for more answers."""
        self.go_on_soon()

    def count_waiting(self, more_bytes: int) -> None:
        """So much more of answers waits for its turn, which the first of the stream may keep from the others."""
        self.stream.waiting_bytes += more_bytes
        self.connection.answers.count(more_bytes)

    def go_on_soon(self) -> None:
        """In a turn of its own: take more, answer more."""
        if not self._turning and not self.ended:
            self._turning = True
            self.servicer.loop.call_soon(self._next_turn)

    @property
    def is_pending(self) -> bool:
        """See Call."""
        return self.reader is not None and self.reader.size_bytes > 0

    def refuse(self, error: RouterError) -> None:
        """See Call: once."""
        if self._last is None:
            super().refuse(error)

    def finish(self, last: bytes) -> None:
        """See Call: what was begun is answered first, for its sender did nothing wrong with it."""
        if self.ended or not self._asked:
            super().finish(last)
        elif self._last is None:
            self._last, self._stopped, self._inflating = last, True, False
            self.reader = MessageReader()
            unread_bytes = self.held_bytes - self._asked_bytes
            self.held_bytes -= unread_bytes
            self.servicer.plane.held_bytes -= unread_bytes
            self.go_on_soon()

    def stop_reading(self) -> None:
        """Take no more requests; those that were begun are answered."""
        self._stopped = True
        self.go_on_soon()

    def check(self, now_s: float) -> None:
        """See StreamOwner: also a message that does not come whole."""
        reader, limit_s = self.reader, self.servicer.plane.http.body_timeout_s
        waits = reader is not None and reader.size_bytes > 0 and not self.stream.paused and not self._inflating
        if not waits or self._begun_message[0] != self._taken:
            self._begun_message = (self._taken, now_s)
        elif now_s - self._begun_message[1] > limit_s:
            self.refuse(RequestError("request_timeout", f"a message took more than {limit_s:g} s"))
        super().check(now_s)

    def end(self) -> None:
        """See Call."""
        if self.ended:
            return
        super().end()
        if self._timer is not None:
            self._timer.cancel()
        self.servicer.streams.discard(self)
        self.count_waiting(-self.stream.waiting_bytes)
        remaining_s = self.remaining_s()
        while self._asked:
            abandon(self._asked.popleft().exchange, remaining_s)

    def _next_turn(self) -> None:
        self._turning = False
        if not self.ended:
            self._go_on()

    def _go_on(self) -> None:
        """Answer in order, begin what there is room for, end where all is done."""
        try:
            self._answer()
            self._take()
            if not self.ended:
                self._end_if_done()
        except RouterError as error:
            self.refuse(error)
        except Exception:
            self.broken()

    def _answer(self) -> None:
        asked = self._asked
        while asked and asked[0].reply is not None and self.stream.queued_bytes <= MAX_UNREAD_BYTES:
            first = asked.popleft()
            self.write(first.text())
            self._release(first.held_bytes)
            self.count_waiting(-first.answer_bytes)

    def _take(self) -> None:
        reader, stream = self.reader, self.stream
        for _ in range(PER_TURN):
            if self._stopped or self._inflating or self.ended or reader is None or self._is_full():
                break
            length = reader.length()
            if length is not None:
                self.admit(length)
            taken = reader.take()
            if taken is None:
                break
            self._taken += 1
            self.connection.core.pay_back()
            flag, message = taken
            self._inflating = bool(flag)
            self.plain(flag, message, self._begin)
        else:
            self.go_on_soon()
        was_paused, stream.paused = stream.paused, self._is_full() or self._stopped
        if was_paused and not stream.paused and not self.ended:
            self.connection.core.give_back(stream)
            self.connection.wake()

    def _is_full(self) -> bool:
        return len(self._asked) >= STREAM_REQUESTS or self.stream.queued_bytes > MAX_UNREAD_BYTES

    def _begin(self, body: bytes) -> None:
        reader, later = self.reader, self.task is not None
        assert reader is not None
        self._inflating = False
        # What was counted for it, as it came and as it was inflated.
        one = InStream(self, self.held_bytes - reader.size_bytes - self._asked_bytes)
        self._asked_bytes += one.held_bytes
        self._asked.append(one)
        one.exchange, one.message = self.servicer.begin(self.asked, self.number, body, self.remaining_s(), one.answered)
        if one.reply is not None:
            one.exchange = None
        # An id that the client gave is that of the first request; the others get one of their own.
        self.number = self.servicer.plane.request_ids.new()
        if later:
            self.task = None
            self.go_on_soon()

    def _release(self, nbytes: int) -> None:
        self.held_bytes -= nbytes
        self._asked_bytes -= nbytes
        self.servicer.plane.held_bytes -= nbytes

    def _end_if_done(self) -> None:
        reader = self.reader
        if self._asked or self._inflating or self._turning:
            return
        if self._last is not None:
            self.finish(self._last)
        elif self._stopped:
            error = CapacityError("draining", "this server is leaving: open a new stream")
            self.fail(failed(error, self.number))
        elif self.stream.ended and reader is not None:
            if reader.size_bytes:
                raise RequestError("malformed", "the stream ended within a message")
            self.finish(OK)

    def _on_deadline(self) -> None:
        error = CapacityError("deadline_unmeetable", "the deadline of the stream passed")
        super().finish(trailers(failed(error, self.number)))
