"""What waits for one pool, and which replica takes it: credits per model, earliest deadline first inside priority.

Owns the credit count of every replica stream of a pool. Sends nothing: it names the replica, the caller sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import msgspec

from router.protocol.link import Item, ModelGrant


class Entry(msgspec.Struct, eq=False):
    """One request on its way to a pool. `replica` is "" while it waits for credit."""

    key: int
    item: Item
    nbytes: int
    deadline_s: float
    owner: object
    """The caller's own record of the request, handed back untouched."""
    without: tuple[str, ...] = ()
    """Replicas that have failed this request already."""
    offered_s: float = 0.0
    waited_s: float = 0.0
    """How long it waited here for a replica's credit, in seconds; 0 where it was sent at once."""
    replica: str = ""
    ended: bool = False


class _Credit:
    """Open items and bytes of one stream against what its replica granted, per model."""

    __slots__ = ("draining", "grants", "open_bytes", "open_items", "open_rows")

    def __init__(self, grants: Sequence[ModelGrant]) -> None:
        self.grants = {grant.model: grant for grant in grants}
        self.open_items = dict.fromkeys(self.grants, 0)
        self.open_bytes = dict.fromkeys(self.grants, 0)
        self.open_rows = 0
        self.draining = False

    def fits(self, entry: Entry) -> bool:
        model = entry.item.model
        grant = self.grants.get(model)
        if grant is None or self.draining or self.open_items[model] >= grant.items:
            return False
        # One item over the byte grant may pass alone, or it could never run at all.
        return self.open_items[model] == 0 or self.open_bytes[model] + entry.nbytes <= grant.bytes


class PoolQueue:
    """Bounded queue of one pool. Sending and answering cost O(replicas + log waiting); `withdraw` O(waiting)."""

    def __init__(self, max_waiting: int, max_waiting_bytes: int) -> None:
        self.max_waiting = max_waiting
        self.max_waiting_bytes = max_waiting_bytes
        self._waiting: dict[str, list[tuple[int, float, int, Entry]]] = {}
        self._waiting_items = 0
        self._waiting_bytes = 0
        self._credits: dict[str, _Credit] = {}

    @property
    def waiting(self) -> int:
        """Entries without a replica."""
        return self._waiting_items

    def replica_up(self, replica: str, grants: Sequence[ModelGrant]) -> list[Entry]:
        """A stream is open. Returns waiting entries that may be sent to it now, `replica` set."""
        self._credits[replica] = _Credit(grants)
        return self._assign_waiting()

    def replica_draining(self, replica: str) -> None:
        """Nothing new goes to this replica; what is open there stays."""
        if credit := self._credits.get(replica):
            credit.draining = True

    def replica_down(self, replica: str) -> None:
        """The stream is gone. The caller ends or re-offers what it had sent there."""
        self._credits.pop(replica, None)

    def offer(self, entry: Entry) -> bool:
        """Take one entry. True: taken, and `entry.replica` says where to send it, or "" where it waits.

        False: the queue is full (items or bytes); nothing was taken.
        """
        # What waits already goes first: small newcomers would else pass a large one until it expires.
        replica = "" if self._waiting.get(entry.item.model) else self._best(entry)
        if replica:
            self._open(replica, entry)
            return True
        if entry.without and not any(name not in entry.without for name in self._credits):
            return False
        if self._waiting_items >= self.max_waiting or self._waiting_bytes + entry.nbytes > self.max_waiting_bytes:
            return False
        self._waiting_items += 1
        self._waiting_bytes += entry.nbytes
        item = entry.item
        heappush(self._waiting.setdefault(item.model, []), (item.priority, entry.deadline_s, entry.key, entry))
        return True

    def finished(self, entry: Entry) -> list[Entry]:
        """An open entry was answered. Frees its credit; returns waiting entries that may be sent now."""
        entry.ended = True
        credit = self._credits.get(entry.replica)
        if credit is not None:
            item = entry.item
            credit.open_items[item.model] -= 1
            credit.open_bytes[item.model] -= entry.nbytes
            credit.open_rows -= item.rows
        return self._assign_waiting() if self._waiting_items else []

    def withdraw(self, entry: Entry) -> bool:
        """Take back an entry that still waits. False: it was sent (or ended) and only `finished` frees it."""
        if entry.replica or entry.ended:
            return False
        entry.ended = True
        self._waiting_items -= 1
        self._waiting_bytes -= entry.nbytes
        queue = self._waiting[entry.item.model]
        # Lazy deletion would let a flood of withdrawn entries outlive the bound.
        queue[:] = [held for held in queue if held[3] is not entry]
        heapify(queue)
        return True

    def withdraw_all(self) -> list[Entry]:
        """Take back everything that waits: no replica of the pool is left."""
        entries = [held[3] for queue in self._waiting.values() for held in sorted(queue, key=lambda held: held[:3])]
        for entry in entries:
            entry.ended = True
        self._waiting.clear()
        self._waiting_items = 0
        self._waiting_bytes = 0
        return entries

    def _best(self, entry: Entry) -> str:
        """The replica with credit and the fewest open rows; the first of equals."""
        best, fewest = "", -1
        for replica, credit in self._credits.items():
            if replica in entry.without:
                continue
            if (fewest < 0 or credit.open_rows < fewest) and credit.fits(entry):
                best, fewest = replica, credit.open_rows
        return best

    def _open(self, replica: str, entry: Entry) -> None:
        entry.replica = replica
        credit = self._credits[replica]
        item = entry.item
        credit.open_items[item.model] += 1
        credit.open_bytes[item.model] += entry.nbytes
        credit.open_rows += item.rows

    def _assign_waiting(self) -> list[Entry]:
        assigned: list[Entry] = []
        for queue in self._waiting.values():
            while queue:
                entry = queue[0][3]
                replica = self._best(entry)
                if not replica:
                    break
                heappop(queue)
                self._waiting_items -= 1
                self._waiting_bytes -= entry.nbytes
                self._open(replica, entry)
                assigned.append(entry)
        return assigned
