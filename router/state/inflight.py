"""The ledger of leases: what this router has open on each pool. Each lease is released exactly once."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["success", "dropped", "ignored"]
"""success: answered. dropped: given up while it waited or ran. ignored: failed, which says nothing about load."""


class LeaseError(RuntimeError):
    """A lease was released twice: a bug in the caller."""


class Lease(msgspec.Struct, eq=False, gc=False):
    """One request's hold on a pool's capacity. `outcome` is "" while it is held."""

    pool: str
    model: str
    rows: int
    nbytes: int
    taken_s: float
    outcome: str = ""


class Held:
    """What is leased on one pool now. Models without a lease are absent from `rows`."""

    __slots__ = ("nbytes", "requests", "rows")

    def __init__(self) -> None:
        self.requests = 0
        self.nbytes = 0
        self.rows: dict[str, int] = {}


class Ledger:
    """Counts by pool, every operation O(1)."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def held(self, pool: str) -> Held:
        """The live counts of a pool: read them, never write them."""
        held = self._held.get(pool)
        if held is None:
            held = self._held[pool] = Held()
        return held

    def lease(self, pool: str, model: str, rows: int, nbytes: int, now_s: float) -> Lease:
        """Take a lease. Whether there is room was the decision's question, not this one's."""
        held = self.held(pool)
        held.requests += 1
        held.nbytes += nbytes
        held.rows[model] = held.rows.get(model, 0) + rows
        return Lease(pool, model, rows, nbytes, now_s)

    def release(self, lease: Lease, outcome: Outcome) -> None:
        """Give it back. Raises LeaseError the second time, with the counts untouched."""
        if lease.outcome:
            raise LeaseError(f"lease on {lease.pool!r} released as {outcome}, was {lease.outcome} already")
        lease.outcome = outcome
        held = self._held[lease.pool]
        held.requests -= 1
        held.nbytes -= lease.nbytes
        left = held.rows[lease.model] - lease.rows
        if left:
            held.rows[lease.model] = left
        else:
            del held.rows[lease.model]
