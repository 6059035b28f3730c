"""The replica's end of the data stream: answers of one loop turn leave in one frame, with the load report.

Owns what is answered and not yet written. What runs is its listener's business.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Protocol

from deployments.stream import StreamEnd
from router.protocol.framing import LinkError
from router.protocol.handshake import NONCE_BYTES, ServerHandshake
from router.protocol.link import FRAGMENT_BYTES, Answer, Answers, Cancel, Item, Load, Message, Submit


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
        self._flush_due = False

    def on_ready(self) -> None:
        """The router proved the key."""
        self._listener.on_open(self)

    def answer(self, answer: Answer) -> None:
        """Send one answer at the end of this loop turn."""
        self._answers.append(answer)
        self._schedule()

    def on_message(self, message: Message) -> None:
        """Dispatch by kind; a kind that only a replica sends is a protocol error."""
        if isinstance(message, Submit):
            if message.ack:
                self._acks += 1
                self._schedule()
            self._listener.on_items(self, message.items)
        elif isinstance(message, Cancel):
            self._listener.on_cancel(self, message.ids)
        else:
            raise LinkError(f"unexpected {type(message).__name__} from a router")

    def on_closed(self, why: str) -> None:
        """What the router had sent is of no use any more."""
        self._answers.clear()
        self._listener.on_lost(self, why)

    def on_writable(self) -> None:
        """Send what was held back."""
        self._schedule()

    def _schedule(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._paused or not (self._acks or self._answers):
            return
        load = self._listener.load()
        small: list[Answer] = []
        for answer in self._answers:
            nbytes = sum(tensor.data.nbytes for tensor in answer.tensors)
            if nbytes > FRAGMENT_BYTES:
                self.send(Answers(0, [answer], load), nbytes)
            else:
                small.append(answer)
        self._answers.clear()
        acks, self._acks = self._acks, 0
        self.send(Answers(acks, small, load))
