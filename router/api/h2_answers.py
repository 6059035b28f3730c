"""The answers that one HTTP/2 connection keeps, in bytes, and who loses them where all together are too much.

They count with the messages that all requests hold. One client that takes nothing must not have all others refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from router.api.plane import DataPlane, log
from router.protocol.h2 import Http2
from router.protocol.h2_frames import ENHANCE_YOUR_CALM


class Keeping(Protocol):
    """A connection that keeps answers."""

    answers: KeptAnswers

    def wake(self) -> None:
        """There may be something to write."""


class KeptAnswers:
    """Of one connection: what its client does not take, and what waits for its turn in a stream."""

    def __init__(self, core: Http2, plane: DataPlane, connections: Iterable[Keeping]) -> None:
        """`connections`: all of the listener, as they come and go."""
        self.bytes = self.queued_bytes = 0
        """All of them; those that wait for the client, as counted last."""
        self._core, self._plane, self._connections = core, plane, connections

    def count_queued(self) -> None:
        """What waits for the client has changed."""
        more_bytes = self._core.queued_bytes - self.queued_bytes
        self.queued_bytes = self._core.queued_bytes
        self.count(more_bytes)

    def count(self, more_bytes: int) -> None:
        """So much more is kept, or less."""
        plane = self._plane
        self.bytes += more_bytes
        plane.answer_bytes += more_bytes
        plane.held_bytes += more_bytes
        if more_bytes > 0:
            self.make_room()

    def make_room(self) -> None:
        """While too much is held and half of what may be is answers, who keeps most of them loses them."""
        if not self._is_too_much():
            return
        for worst in sorted(self._connections, key=lambda connection: -connection.answers.bytes):
            if not self._is_too_much():
                return
            worst.answers.shed()
            worst.wake()

    def shed(self) -> None:
        """Reset every call with an answer that is kept; gRPC's clients read the code as RESOURCE_EXHAUSTED."""
        log.info("gRPC: %d bytes of answers that their client does not take are given up", self.bytes)
        core = self._core
        for stream in [one for one in core.streams.values() if one.queued_bytes or one.waiting_bytes]:
            owner = stream.owner
            core.reset(stream, ENHANCE_YOUR_CALM)
            owner.gone()
        self.count_queued()

    def _is_too_much(self) -> bool:
        plane = self._plane
        return plane.held_bytes > plane.max_held_bytes and 2 * plane.answer_bytes > plane.max_held_bytes
