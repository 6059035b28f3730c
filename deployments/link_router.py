"""The router's end of the data stream: gathers items while a frame is outstanding.

Owns what is submitted and not yet written. Who waits for an answer is its listener's business.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Protocol

from deployments.stream import GROUP_BYTES, StreamEnd
from router.protocol.fragments import MessageTooLarge
from router.protocol.framing import LinkError
from router.protocol.handshake import NONCE_BYTES, ClientHandshake
from router.protocol.link import (
    FRAGMENT_BYTES,
    Answer,
    Answers,
    Cancel,
    Drain,
    Item,
    Load,
    Message,
    Submit,
    Welcome,
)

log = logging.getLogger("pointsman.stream")

EAGER_ITEMS = 8
"""A frame of so many items leaves at once, though the loop turn goes on: the replica runs while the rest is parsed.
Without it the two take turns, each idle while the other works: one batch of all requests, then all their answers."""


class RouterListener(Protocol):
    """What the router's end reports."""

    def on_welcome(self, stream: RouterEnd, welcome: Welcome) -> None:
        """The replica proved the key and said who it is."""

    def on_answers(self, stream: RouterEnd, answers: list[Answer], load: Load) -> None:
        """Answers, maybe none, and a load report."""

    def on_unsent(self, stream: RouterEnd, answer: Answer) -> None:
        """An item that cannot be sent has ended with this answer; the replica never hears of it."""

    def on_drain(self, stream: RouterEnd) -> None:
        """The replica is leaving."""

    def on_lost(self, stream: RouterEnd, why: str) -> None:
        """The connection is gone; also told where it never opened."""


class Outgoing(Protocol):
    """An item with its moment of uselessness on the router's clock and its size."""

    item: Item
    deadline_s: float
    nbytes: int
    ended: bool


class RouterEnd(StreamEnd):
    """The router's end: gathers items while a frame is outstanding, so the busier, the larger the frame."""

    def __init__(
        self, key: bytes, listener: RouterListener, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        super().__init__(ClientHandshake(key, secrets.token_bytes(NONCE_BYTES)), loop)
        self._listener = listener
        self._clock = clock
        self._pending: list[Outgoing] = []
        self._unacked = 0
        self._flush_due = False
        self.welcome: Welcome | None = None
        self.settled = asyncio.Event()
        """Set once the replica said who it is, or the connection was lost before."""

    def submit(self, outgoing: Outgoing) -> None:
        """Send an item with the next frame: at the end of this loop turn, or when the last frame was taken in.

        Its tensors' memory must not change before it is answered or cancel() returned True.
        """
        pending = self._pending
        pending.append(outgoing)
        if not (self._unacked or self._paused):
            if len(pending) >= EAGER_ITEMS:
                self._flush()
            elif not self._flush_due:
                self._flush_due = True
                self._loop.call_soon(self._flush)

    def cancel(self, outgoing: Outgoing) -> bool:
        """The answer is of no use. True: it has not left whole and never will, so that the replica never hears of it.

        False: the replica answers it all the same. It has the item before the Cancel.
        """
        if outgoing in self._pending:
            self._pending.remove(outgoing)
            return True
        if self.drop(outgoing.item.id):
            return True
        self.send(Cancel([outgoing.item.id]))
        return False

    def on_message(self, message: Message) -> None:
        """Dispatch by kind; a kind that only a router sends is a protocol error."""
        if isinstance(message, Answers):
            if message.acks:
                self._unacked -= message.acks
                if self._pending and not self._flush_due:
                    self._flush_due = True
                    self._loop.call_soon(self._flush)
            self._listener.on_answers(self, message.answers, message.load)
        elif isinstance(message, Welcome) and self.welcome is None:
            self.welcome = message
            self._listener.on_welcome(self, message)
            self.settled.set()
        elif isinstance(message, Drain):
            self._listener.on_drain(self)
        else:
            raise LinkError(f"unexpected {type(message).__name__} from a pool replica")

    def on_closed(self, why: str) -> None:
        """Every item that was submitted is the listener's to end."""
        self._pending.clear()
        self.settled.set()
        self._listener.on_lost(self, why)

    def on_writable(self) -> None:
        """Send what was held back."""
        self._flush()

    def _flush(self) -> None:
        self._flush_due = False
        if self._unacked or self._paused or not self._pending or not self.is_open:
            return
        batch, self._pending = self._pending, []
        now_s = self._clock()
        small: list[Item] = []
        nbytes = 0
        for at, out in enumerate(batch):
            if out.ended:
                continue
            if out.nbytes <= FRAGMENT_BYTES:
                nbytes += out.nbytes
                if nbytes > GROUP_BYTES and small:
                    self._send(small)
                    small, nbytes = [], out.nbytes
                    if self._paused:
                        self._pending = batch[at:]
                        return
                small.append(out.item)
            out.item.budget_us = int((out.deadline_s - now_s) * 1e6)
            if out.nbytes > FRAGMENT_BYTES:
                self._send_large(out.item)
        if small:
            self._send(small)

    def _send(self, items: list[Item]) -> None:
        """One frame of items; those that cannot be encoded are found and ended, each alone."""
        try:
            self.send(Submit(items))
            self._unacked += 1
        except Exception as error:
            if len(items) == 1:
                self._end_unsent(items[0], error)
                return
            for item in items:
                self._send([item])

    def _send_large(self, item: Item) -> None:
        try:
            self.send_large(Submit([item], ack=False), item.id)
        except Exception as error:
            self._end_unsent(item, error)

    def _end_unsent(self, item: Item, error: Exception) -> None:
        if isinstance(error, MessageTooLarge):
            reason, detail = "too_large", f"the request's tensors have {error}"
        else:
            reason, detail = "internal", f"the request cannot be encoded for a replica: {type(error).__name__}"
            log.error("request %s cannot be encoded: %r", item.request_id, error)
        # Later: whoever submitted it may not have the ticket yet that goes with the answer.
        answer = Answer(item.id, reason, detail, False, 0, 0, 0, 0, [])
        self._loop.call_soon(self._listener.on_unsent, self, answer)
