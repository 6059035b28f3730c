"""What this router has open at one pool: entries on their way, each finished exactly once, its credit given back.

Owns the pool's queue and the entries sent and not yet answered. Connections are dispatch.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deployments.link_router import RouterEnd
from router.protocol.link import Answer
from router.state.pool_queue import Entry, PoolQueue


def lost(entry: Entry, detail: str, *, dispatched: bool) -> Answer:
    """The answer of an item whose replica is gone."""
    return Answer(entry.item.id, "backend_lost", detail, dispatched, 0, 0, 0, 0, [])


def give(entry: Entry, answer: Answer) -> None:
    """Hand the answer to the entry's owner, if he still wants it; once."""
    owner, entry.owner = entry.owner, None
    if owner is not None:
        owner(answer)  # type: ignore[operator]


class PoolLinks:
    """One pool: its queue, its streams by replica id, and the entries sent and not yet answered."""

    def __init__(self, name: str, queue: PoolQueue, clock: Callable[[], float]) -> None:
        self.name = name
        self.clock = clock
        self.queue = queue
        self.streams: dict[str, RouterEnd] = {}
        self.draining: set[str] = set()
        self.closed: dict[str, Mapping[str, tuple[str, str]]] = {}
        """By replica: the models that it takes nothing for now, see link.Load.closed."""
        self.open: dict[int, Entry] = {}
        self.wanted: dict[str, tuple[str, int]] = {}
        self.told = False
        """Whether membership has said which replicas there are."""
        self.connecting: set[str] = set()

    def send(self, entry: Entry) -> None:
        """Hand an entry that has a replica to its stream."""
        self.open[entry.key] = entry
        self.streams[entry.replica].submit(entry)

    def finish(self, entry: Entry, answer: Answer) -> None:
        """Free the entry's credit, send what may go now, and hand the answer to its owner if he still wants it."""
        self.release(entry)
        give(entry, answer)

    def release(self, entry: Entry) -> None:
        """Free the entry's credit and send what may go now."""
        for ready in self.queue.finished(entry):
            self.send_late(ready)

    def send_late(self, entry: Entry) -> None:
        """Send an entry that had to wait for credit."""
        entry.waited_s = self.clock() - entry.offered_s
        self.send(entry)

    def close_if_drained(self, replica: str) -> None:
        """A leaving replica waits for this: only the end that has every answer knows that it has."""
        if replica in self.draining and all(entry.replica != replica for entry in self.open.values()):
            self.streams[replica].close("drained")

    @property
    def usable(self) -> bool:
        """Whether some replica takes new work."""
        return len(self.streams) > len(self.draining)


class LinkTicket:
    """One accepted send; see router/service/ports.py."""

    __slots__ = ("_entry", "_pool")

    def __init__(self, pool: PoolLinks, entry: Entry) -> None:
        self._pool = pool
        self._entry = entry

    @property
    def replica(self) -> str:
        """See ports.Ticket.replica."""
        return self._entry.replica

    @property
    def waited_s(self) -> float:
        """See ports.Ticket.waited_s."""
        return self._entry.waited_s

    def cancel(self) -> None:
        """Withdraw it where it waits, or tell the replica; the credit comes back with the replica's own answer."""
        entry = self._entry
        if entry.ended:
            return
        entry.owner = None
        pool = self._pool
        if not pool.queue.withdraw(entry) and (stream := pool.streams.get(entry.replica)) and stream.cancel(entry):
            del pool.open[entry.key]
            pool.release(entry)
            pool.close_if_drained(entry.replica)
