"""The waiting line of one model: which requests run together next. Driven by now_s.

Owns the order of what waits. Never runs anything, never decides what may enter (replica.py does).
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush

import msgspec

from models.spec import BatchRule


class WorkItem(msgspec.Struct, frozen=True, eq=False):
    """One request as the batcher sees it. Compared by identity, since payloads need not compare."""

    key: Hashable
    """Unique among the items held."""
    model: str
    rows: int
    """At least 1."""
    nbytes: int
    deadline_s: float
    """Moment at which an answer stops being useful, on the clock that now_s is read from."""
    priority: int
    """0 is served first."""
    enqueued_s: float
    payload: object


class Taken(msgspec.Struct):
    """What left the line: `batch` is to be run, in this order; `expired` ended without running."""

    batch: list[WorkItem]
    expired: list[WorkItem]


class Batcher:
    """Lower priority number first, inside it earliest deadline first, inside that first come first.

    A batch is always a prefix of that order: it ends at the first item that does not fit. Filling the gap with
    smaller items would let them overtake a large one batch after batch; this way nothing is ever overtaken by what
    comes after it in the order, at the price of at most (rows of that item - 1) empty rows. A lower priority does
    wait as long as higher ones keep the lane full; its deadline ends the wait.

    There is no batching window: a lane that is free starts at once, and what arrives while it runs is the next batch.
    Every operation costs O(log n) per item moved, cancel O(1) amortised.
    """

    def __init__(self, rule: BatchRule) -> None:
        self._max_rows = rule.max_rows
        self._heaps: dict[int, list[tuple[float, int]]] = {}  # by priority: (deadline_s, order of arrival)
        self._items: dict[int, WorkItem] = {}  # by order of arrival; a heap entry without an item is dead
        self._orders: dict[Hashable, int] = {}
        self._arrivals = 0
        self._dead = 0
        self._rows = 0
        self._bytes = 0

    @property
    def waiting_items(self) -> int:
        """Items in the line, expired ones included until they are taken out."""
        return len(self._items)

    @property
    def waiting_rows(self) -> int:
        """Sum of their rows."""
        return self._rows

    @property
    def waiting_bytes(self) -> int:
        """Sum of their nbytes."""
        return self._bytes

    def offer(self, item: WorkItem) -> None:
        """Put an item in the line. Raises ValueError if its key is waiting already or it fits no batch."""
        if not 1 <= item.rows <= self._max_rows:
            raise ValueError(f"{item.rows} rows never fit a batch of {self._max_rows}")
        if item.key in self._orders:
            raise ValueError(f"key {item.key!r} is waiting already")
        order = self._arrivals
        self._arrivals = order + 1
        self._items[order] = item
        self._orders[item.key] = order
        self._rows += item.rows
        self._bytes += item.nbytes
        heap = self._heaps.get(item.priority)
        if heap is None:
            heap = self._heaps[item.priority] = []
        heappush(heap, (item.deadline_s, order))

    def cancel(self, key: Hashable) -> WorkItem | None:
        """Take one item out of the line; None if it is not in it."""
        order = self._orders.get(key)
        if order is None:
            return None
        item = self._remove(order)
        self._dead += 1
        if self._dead > len(self._items):
            self._rebuild()
        return item

    def expire(self, now_s: float) -> list[WorkItem]:
        """Take out every item whose deadline is at or before now_s, in order."""
        expired: list[WorkItem] = []
        for priority in sorted(self._heaps):
            while (item := self._first(priority)) is not None and item.deadline_s <= now_s:
                expired.append(self._pop(priority))
        return expired

    def take(self, now_s: float, items: int = 0) -> Taken:
        """Take out the next batch, at most max_rows rows, and every item that expired before it could run.

        `items` > 0 bounds the items of the batch too.
        """
        expired = self.expire(now_s)
        batch: list[WorkItem] = []
        room = self._max_rows
        for priority in sorted(self._heaps):
            while (item := self._first(priority)) is not None:
                if item.rows > room:
                    return Taken(batch, expired)
                room -= item.rows
                batch.append(self._pop(priority))
                if len(batch) == items:
                    return Taken(batch, expired)
        return Taken(batch, expired)

    def due_s(self, now_s: float, *, lane_free: bool) -> float | None:
        """When to act next, never before now_s: at once on a free lane, at the earliest deadline on a busy one.

        None if nothing waits.
        """
        if not self._items:
            return None
        if lane_free:
            return now_s
        firsts = (self._first(priority) for priority in list(self._heaps))
        return max(now_s, min(item.deadline_s for item in firsts if item is not None))

    def _first(self, priority: int) -> WorkItem | None:
        """The first live item of a priority, which has the earliest deadline of it; drops dead entries on the way."""
        heap = self._heaps[priority]
        while heap:
            item = self._items.get(heap[0][1])
            if item is not None:
                return item
            heappop(heap)
            self._dead -= 1
        del self._heaps[priority]  # a peer chooses priorities: empty heaps must not pile up
        return None

    def _pop(self, priority: int) -> WorkItem:
        """Take out the item that _first has just returned."""
        return self._remove(heappop(self._heaps[priority])[1])

    def _remove(self, order: int) -> WorkItem:
        item = self._items.pop(order)
        del self._orders[item.key]
        self._rows -= item.rows
        self._bytes -= item.nbytes
        return item

    def _rebuild(self) -> None:
        self._heaps = {}
        for order, item in self._items.items():
            self._heaps.setdefault(item.priority, []).append((item.deadline_s, order))
        for heap in self._heaps.values():
            heapify(heap)
        self._dead = 0
