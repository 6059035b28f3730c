"""The replica's end of the data stream: answers of one loop turn leave in one frame, with the load report.

Owns what is answered and not yet written: at most MAX_UNSENT_BYTES and MAX_FLOOD_BYTES, whatever the router does. What
runs is its listener's business.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterator
from typing import Protocol

import msgspec

from deployments.stream import GROUP_BYTES, StreamEnd
from router.protocol.fragments import MessageTooLarge
from router.protocol.framing import LinkError
from router.protocol.handshake import NONCE_BYTES, ServerHandshake
from router.protocol.link import FRAGMENT_BYTES, Answer, Answers, Cancel, Item, Load, Message, Submit

log = logging.getLogger("pointsman.stream")

MAX_UNSENT_BYTES = 256 * 1024 * 1024
"""Answers that may wait to be written to one router. Beyond, those with tensors end as failed: whoever reads so slowly
must not take the replica's memory from the others."""
MAX_FLOOD_BYTES = 16 * 1024 * 1024
"""Answers without tensors that may wait besides. A router within its credit never has so many; the stream ends."""
ANSWER_BYTES = 256
"""Counted for an answer besides its tensors."""


class ReplicaListener(Protocol):
    """What the replica's end reports."""

    def on_open(self, stream: ReplicaEnd) -> None:
        """A router proved the key."""

    def on_items(self, stream: ReplicaEnd, items: list[Item]) -> None:
        """Items to run; each is answered exactly once on the same stream."""

    def on_cancel(self, stream: ReplicaEnd, ids: list[int]) -> None:
        """The answers to these items are of no use any more."""

    def on_lost(self, stream: ReplicaEnd, why: str) -> None:
        """The connection is gone; also told where the handshake never ended."""

    def load(self) -> Load:
        """The report that goes with the next answers."""
        ...


class ReplicaEnd(StreamEnd):
    """The replica's end: answers of one loop turn leave in one frame, with the load report."""

    def __init__(self, key: bytes, listener: ReplicaListener, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(ServerHandshake(key, secrets.token_bytes(NONCE_BYTES)), loop)
        self._listener = listener
        self._acks = 0
        self._answers: list[Answer] = []
        self._answers_bytes = 0
        self._flush_due = False

    def on_ready(self) -> None:
        """The router proved the key."""
        self._listener.on_open(self)

    def answer(self, answer: Answer) -> None:
        """Send one answer: at the end of this loop turn, or in pieces from now on.

        One that cannot be sent ends as a failure of that item alone. Tensors' memory must not change afterwards.
        """
        if self._transport is None:
            return
        nbytes = _nbytes(answer)
        if self.unsent_bytes + nbytes > MAX_UNSENT_BYTES:
            if self.unsent_bytes > MAX_UNSENT_BYTES + MAX_FLOOD_BYTES:
                self.close("the router does not read its answers")
                return
            answer, nbytes = self._shed(answer), ANSWER_BYTES
        if nbytes > FRAGMENT_BYTES:
            try:
                self.send_large(Answers(0, [answer], self._listener.load()), answer.id)
                return
            except Exception as error:  # whatever a backend has put there
                answer, nbytes = _unsendable(answer, error), ANSWER_BYTES
        self._answers.append(answer)
        self._answers_bytes += nbytes
        self._schedule()

    @property
    def unsent_bytes(self) -> int:
        """Answers that wait to be written. The transport's own buffer holds a piece or a frame more."""
        return self._answers_bytes + self._large.nbytes

    def on_message(self, message: Message) -> None:
        """Dispatch by kind; a kind that only a replica sends is a protocol error."""
        if isinstance(message, Submit):
            if message.ack:
                self._acks += 1
                self._schedule()
            self._listener.on_items(self, message.items)
        elif isinstance(message, Cancel):
            for item_id in message.ids:
                if self.drop(item_id):
                    self.answer(Answer(item_id, "cancelled", "", True, 0, 0, 0, 0, []))
            self._listener.on_cancel(self, message.ids)
        else:
            raise LinkError(f"unexpected {type(message).__name__} from a router")

    def on_closed(self, why: str) -> None:
        """What the router had sent is of no use any more."""
        self._answers.clear()
        self._answers_bytes = 0
        self._listener.on_lost(self, why)

    def on_writable(self) -> None:
        """Send what was held back."""
        self._flush()

    def _schedule(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._paused or not (self._acks or self._answers):
            return
        load = self._listener.load()
        answers, self._answers = self._answers, []
        acks, self._acks = self._acks, 0
        if self._answers_bytes <= GROUP_BYTES:
            self._answers_bytes = 0
            self._send(acks, answers, load)
            return
        self._answers_bytes = 0
        for group in _groups(answers):
            if self._paused:
                self._answers += group
                self._answers_bytes += sum(map(_nbytes, group))
            else:
                self._send(acks, group, load)
                acks = 0

    def _send(self, acks: int, answers: list[Answer], load: Load) -> None:
        """One frame of answers; those that cannot be encoded are found and failed, each alone."""
        try:
            self.send(Answers(acks, answers, load))
        except Exception as error:  # whatever a backend has put there
            if len(answers) == 1:
                self.send(Answers(acks, [_unsendable(answers[0], error)], load))
                return
            self.send(Answers(acks, [], load))
            for answer in answers:
                self._send(0, [answer], load)

    def _shed(self, answer: Answer) -> Answer:
        if not answer.tensors:
            return answer
        detail = f"{self.unsent_bytes} bytes of answers wait for this router to read them"
        return msgspec.structs.replace(answer, reason="backend_failed", detail=detail, tensors=[])


def _nbytes(answer: Answer) -> int:
    nbytes = ANSWER_BYTES
    for tensor in answer.tensors:
        nbytes += tensor.data.nbytes
    return nbytes


def _groups(answers: list[Answer]) -> Iterator[list[Answer]]:
    """The answers in order, as many together as go in one frame."""
    group: list[Answer] = []
    nbytes = 0
    for answer in answers:
        more = _nbytes(answer)
        if group and nbytes + more > GROUP_BYTES:
            yield group
            group, nbytes = [], 0
        group.append(answer)
        nbytes += more
    yield group


def _unsendable(answer: Answer, error: Exception) -> Answer:
    """What an item gets in the place of an answer that cannot be sent. It ran, so another replica would not help."""
    if isinstance(error, MessageTooLarge):
        reason, detail = "too_large", f"the answer has {error}; ask for fewer rows or outputs"
    else:
        reason, detail = "backend_failed", f"the answer cannot be encoded: {type(error).__name__}"
        log.error("answer to item %d cannot be encoded: %r", answer.id, error)
    return Answer(
        answer.id, reason, detail, True, answer.queue_us, answer.batch_us, answer.run_us, answer.batch_rows, []
    )
