"""What waits for one pool, and which replica takes it: credits per model, earliest deadline first inside priority.

Owns the credit count of every replica stream of a pool. Sends nothing: it names the replica, the caller sends.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from heapq import heapify, heappop, heappush, heapreplace

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

    __slots__ = ("closed", "draining", "grants", "open_bytes", "open_items", "open_rows")

    def __init__(self, grants: Sequence[ModelGrant]) -> None:
        self.grants = {grant.model: grant for grant in grants}
        self.open_items = dict.fromkeys(self.grants, 0)
        self.open_bytes = dict.fromkeys(self.grants, 0)
        self.open_rows = 0
        self.draining = False
        self.closed: Collection[str] = ()

    def takes(self, model: str) -> bool:
        """Whether it may get items of the model, now or once it has credit again."""
        return model in self.grants and not self.draining and model not in self.closed

    def fits(self, entry: Entry) -> bool:
        model = entry.item.model
        grant = self.grants.get(model)
        if grant is None or self.draining or self.open_items[model] >= grant.items or model in self.closed:
            return False
        # One item over the byte grant may pass alone, or it could never run at all.
        return self.open_items[model] == 0 or self.open_bytes[model] + entry.nbytes <= grant.bytes


_Held = tuple[int, float, int, Entry]


class PoolQueue:
    """Bounded queue of one pool. Sending and answering cost O(replicas + log waiting); `withdraw` O(waiting).

    Nothing overtakes what waits at a replica that either may take. What has failed at a replica leaves that one free.
    """

    def __init__(self, max_waiting: int, max_waiting_bytes: int) -> None:
        self.max_waiting = max_waiting
        self.max_waiting_bytes = max_waiting_bytes
        self._waiting: dict[str, dict[frozenset[str], list[_Held]]] = {}
        """By model, then by the replicas excluded: within such a group all wait for the same. No group is empty."""
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
        """Nothing new goes to this replica; what is open there stays. `withdraw_stranded` gives what waited for it."""
        if credit := self._credits.get(replica):
            credit.draining = True

    def replica_changed(self, replica: str, closed: Collection[str], grants: Sequence[ModelGrant]) -> list[Entry]:
        """It takes no item of the models in `closed` for now, and grants this instead of what it did.

        Returns waiting entries that may be sent to it now. `withdraw_stranded` gives what waited for it alone.
        """
        credit = self._credits.get(replica)
        if credit is None:
            return []
        credit.closed = closed
        credit.grants |= {grant.model: grant for grant in grants if grant.model in credit.grants}
        return self._assign_waiting()

    def replica_down(self, replica: str) -> None:
        """The stream is gone. The caller ends or re-offers what it had sent there."""
        self._credits.pop(replica, None)

    def offer(self, entry: Entry) -> bool:
        """Take one entry. True: taken, and `entry.replica` says where to send it, or "" where it waits.

        False: the queue is full (items or bytes), or no replica may ever take it; nothing was taken.
        """
        item = entry.item
        groups = self._waiting.get(item.model)
        # What waits already goes first: small newcomers would else pass a large one until it expires.
        replica = self._best(entry, frozenset.intersection(*groups) if groups else None)
        if replica:
            self._open(replica, entry)
            return True
        without = frozenset(entry.without)
        if self._is_stranded(item.model, without):
            return False
        if self._waiting_items >= self.max_waiting or self._waiting_bytes + entry.nbytes > self.max_waiting_bytes:
            return False
        self._waiting_items += 1
        self._waiting_bytes += entry.nbytes
        queue = self._waiting.setdefault(item.model, {}).setdefault(without, [])
        heappush(queue, (item.priority, entry.deadline_s, entry.key, entry))
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
        self._left(entry)
        groups, without = self._waiting[entry.item.model], frozenset(entry.without)
        # Lazy deletion would let a flood of withdrawn entries outlive the bound.
        if queue := [held for held in groups[without] if held[3] is not entry]:
            heapify(queue)
            groups[without] = queue
        else:
            del groups[without]
        return True

    def withdraw_stranded(self) -> list[Entry]:
        """Take back what waits for replicas that are all gone or draining: others would have to wait behind it."""
        entries: list[Entry] = []
        for model, groups in self._waiting.items():
            for without in [without for without in groups if self._is_stranded(model, without)]:
                entries += [held[3] for held in sorted(groups.pop(without))]
        for entry in entries:
            entry.ended = True
            self._left(entry)
        return entries

    def _is_stranded(self, model: str, without: Set[str]) -> bool:
        return not any(credit.takes(model) for name, credit in self._credits.items() if name not in without)

    def _left(self, entry: Entry) -> None:
        self._waiting_items -= 1
        self._waiting_bytes -= entry.nbytes

    def _best(self, entry: Entry, among: Set[str] | None) -> str:
        """The replica with credit and the fewest open rows, of all or of `among`; the first of equals."""
        best, fewest = "", -1
        for replica, credit in self._credits.items():
            if replica in entry.without or (among is not None and replica not in among):
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
        for groups in self._waiting.values():
            self._assign(groups, assigned)
        return assigned

    def _assign(self, groups: dict[frozenset[str], list[_Held]], assigned: list[Entry]) -> None:
        """Open what may go of one model, in the order of all its groups together."""
        heads = [(queue[0], without) for without, queue in groups.items()]
        heapify(heads)
        free: frozenset[str] | None = None  # replicas that nothing further ahead waits for; None: all
        while heads:
            (*_, entry), without = heads[0]
            if replica := self._best(entry, free):
                queue = groups[without]
                heappop(queue)
                self._left(entry)
                self._open(replica, entry)
                assigned.append(entry)
                if queue:
                    heapreplace(heads, (queue[0], without))
                    continue
                del groups[without]
            else:
                free = without if free is None else free & without
                if not free:
                    return
            heappop(heads)
