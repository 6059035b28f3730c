"""A replica's order of steps: admit, take, done. Sans-IO: a pool and a simulator drive the same code with now_s.

Owns which items the replica holds and whether each model's lane is busy. Never runs a batch, never waits.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from enum import StrEnum

import msgspec

from models.batching import Batcher, Taken, WorkItem
from models.spec import BatchRule


class Refusal(StrEnum):
    """Why an item was not admitted. It has not run: it may be tried on another replica."""

    MODEL_NOT_FOUND = "model_not_found"
    """No lane for this model here."""
    TOO_LARGE = "too_large"
    """More rows than any batch, or more bytes than the lane may ever hold. Waiting does not help."""
    DRAINING = "draining"
    EXPIRED = "expired"
    """The deadline has passed already."""
    QUEUE_FULL = "queue_full"
    """The lane holds as many items or bytes as it may. Waiting helps."""


class Ended(msgspec.Struct):
    """One item of a batch that has run."""

    item: WorkItem
    cancelled: bool
    """Cancelled while it ran: nobody wants the answer."""
    late: bool
    """Its deadline passed while it ran."""


class _Lane:
    """One model: its waiting line and what runs now."""

    __slots__ = ("alone", "batcher", "cancelled", "max_rows", "running", "running_bytes", "running_rows")

    def __init__(self, rule: BatchRule, alone: int) -> None:
        self.batcher = Batcher(rule)
        self.max_rows = rule.max_rows
        self.alone = alone
        self.running: list[WorkItem] = []
        self.running_rows = 0
        self.running_bytes = 0
        self.cancelled: set[Hashable] = set()

    @property
    def free(self) -> bool:
        """Whether more may run now."""
        return len(self.running) < self.alone if self.alone else not self.running

    def run(self, items: list[WorkItem]) -> None:
        """Hold these as what runs."""
        self.running = items
        self.running_rows = sum(item.rows for item in items)
        self.running_bytes = sum(item.nbytes for item in items)


class ReplicaCore:
    """One lane per model, so that a slow model never blocks a fast one. At most one batch runs in each; or, with
    `alone`, up to so many items, each by itself, where what they go to makes its own batches.

    An admitted item leaves exactly once: in the `done` of its batch, as expired (by `take` or `expire`), or by a
    `cancel` that returned True. For the same reason as the lanes, `max_items` and `max_bytes` bound what *each* lane
    holds, waiting and running: a replica of n models holds at most n times as much.
    """

    def __init__(self, rules: Mapping[str, BatchRule], max_items: int, max_bytes: int, *, alone: int = 0) -> None:
        self._lanes = {model: _Lane(rule, alone) for model, rule in rules.items()}
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._held: dict[Hashable, _Lane] = {}
        self._draining = False

    @property
    def held_items(self) -> int:
        """Items admitted that have not left, over all lanes."""
        return len(self._held)

    @property
    def draining(self) -> bool:
        """Whether drain() was called."""
        return self._draining

    @property
    def drained(self) -> bool:
        """Draining and nothing held: the replica may stop."""
        return self._draining and not self._held

    def held_keys(self) -> list[Hashable]:
        """Keys of every item admitted that has not left."""
        return list(self._held)

    def drain(self) -> None:
        """Admit nothing more; what is held still runs."""
        self._draining = True

    def admit(self, item: WorkItem, now_s: float) -> Refusal | None:
        """Take an item in, or say why not. Raises ValueError for a key that is held already or rows below 1."""
        lane = self._lanes.get(item.model)
        if lane is None:
            return Refusal.MODEL_NOT_FOUND
        if item.rows > lane.max_rows or item.nbytes > self._max_bytes:
            return Refusal.TOO_LARGE
        if self._draining:
            return Refusal.DRAINING
        if not item.deadline_s > now_s:  # written so that NaN counts as expired
            return Refusal.EXPIRED
        batcher = lane.batcher
        if (
            batcher.waiting_items + len(lane.running) >= self._max_items
            or batcher.waiting_bytes + lane.running_bytes + item.nbytes > self._max_bytes
        ):
            return Refusal.QUEUE_FULL
        if item.key in self._held:
            raise ValueError(f"key {item.key!r} is held already")
        batcher.offer(item)
        self._held[item.key] = lane
        return None

    def cancel(self, key: Hashable) -> bool:
        """True if the item was waiting: it has left and will not run. False if it runs (done() tells) or is gone."""
        lane = self._held.get(key)
        if lane is None:
            return False
        if lane.batcher.cancel(key) is None:
            lane.cancelled.add(key)
            return False
        del self._held[key]
        return True

    def expire(self, now_s: float) -> list[WorkItem]:
        """Take out every waiting item, of any lane, whose deadline is at or before now_s."""
        expired = [item for lane in self._lanes.values() for item in lane.batcher.expire(now_s)]
        for item in expired:
            del self._held[item.key]
        return expired

    def take(self, model: str, now_s: float) -> Taken | None:
        """The next batch of a model, now running unless it is empty, and what expired instead of running.

        None while the lane is busy or nothing waits. Raises KeyError for a model without a lane.
        """
        lane = self._lanes[model]
        if not lane.free or not lane.batcher.waiting_items:
            return None
        taken = lane.batcher.take(now_s, 1 if lane.alone else 0)
        for item in taken.expired:
            del self._held[item.key]
        lane.run([*lane.running, *taken.batch] if lane.alone else taken.batch)
        return taken

    def done(self, model: str, now_s: float, key: Hashable = None) -> list[Ended]:
        """What ran of a model has ended, well or not, or of items that run alone the one with this key: lets them go.

        In batch order. Raises ValueError if none of it is running, KeyError for a model without a lane.
        """
        lane = self._lanes[model]
        over = lane.running if key is None else [item for item in lane.running if item.key == key]
        if not over:
            raise ValueError(f"no batch of {model!r} is running")
        cancelled = lane.cancelled
        ended = [Ended(item, item.key in cancelled, item.deadline_s <= now_s) for item in over]
        for item in over:
            del self._held[item.key]
            cancelled.discard(item.key)
        lane.run([] if key is None else [item for item in lane.running if item.key != key])
        return ended

    def withdraw(self, model: str) -> list[WorkItem]:
        """Take out every waiting item of a model, in order: it cannot be run here for now."""
        items = self._lanes[model].batcher.expire(math.inf)
        for item in items:
            del self._held[item.key]
        return items

    def ready_lanes(self) -> list[str]:
        """Models for which take() has something to give: the lane is free and items wait."""
        return [model for model, lane in self._lanes.items() if lane.free and lane.batcher.waiting_items]

    def due_s(self, now_s: float) -> float | None:
        """When to act next, never before now_s: at once if a lane is ready, else when an item is to expire().

        None if nothing waits.
        """
        dues = (lane.batcher.due_s(now_s, lane_free=lane.free) for lane in self._lanes.values())
        return min((due for due in dues if due is not None), default=None)

    def waiting_rows(self) -> dict[str, int]:
        """Rows waiting or running, for every model served here."""
        return {model: lane.batcher.waiting_rows + lane.running_rows for model, lane in self._lanes.items()}
