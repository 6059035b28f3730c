"""The order of steps of one request, and the only place that knows it. Pure: two drivers conduct it, the async handler
and the simulator; they bring the time, move the bytes and wait.

    decide → (no pool: no_pool_error) → dispatch → on_answer | on_dropped | on_refused | on_failure → (decide again)

Each attempt ends in exactly one of the four; ending it twice raises LeaseError.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import msgspec

from router.core.decide import decide
from router.core.decision import Decision
from router.core.errors import CapacityError
from router.core.explain import explain
from router.core.fleet import FleetSnapshot
from router.core.profile import RoutingProfile
from router.core.request import RequestFacts
from router.protocol.link import Answer
from router.state.fleet_view import FleetView
from router.state.inflight import Lease, Ledger

if TYPE_CHECKING:
    import random


class Attempt(msgspec.Struct, eq=False, gc=False):
    """One dispatch of a request to a pool."""

    request: RequestFacts
    lease: Lease
    predicted_s: float
    """Completion predicted at `sent_s`, in seconds from then."""
    sent_s: float
    replica: str = ""
    """Set by the driver once a replica has been given the request; "" while none has."""


class Cycle:
    """Conducts requests over one fleet. Not thread-safe: one router replica, one loop."""

    def __init__(
        self, view: FleetView, ledger: Ledger, profile: RoutingProfile, rng: random.Random, *, max_attempts: int = 3
    ) -> None:
        """`ledger` is the one that `view` counts from. `max_attempts` (>= 1) includes the first."""
        self._view = view
        self._ledger = ledger
        self._profile = profile
        self._rng = rng
        self._max_attempts = max_attempts

    def with_profile(self, profile: RoutingProfile) -> Cycle:
        """The same fleet, ledger and randomness under another routing profile; leases end in either."""
        return Cycle(self._view, self._ledger, profile, self._rng, max_attempts=self._max_attempts)

    def snapshot(self, now_s: float) -> FleetSnapshot:
        """The fleet as a decision would see it now."""
        return self._view.snapshot(now_s)

    def any_ready(self, now_s: float) -> bool:
        """Whether some pool has a ready replica."""
        return any(pool.ready_replicas for pool in self._view.snapshot(now_s).pools)

    def decide(self, request: RequestFacts, now_s: float) -> Decision:
        """Snapshot, then decide. The same for a first attempt and a retry: eligibility is asked each time."""
        return decide(request, self._view.snapshot(now_s), self._profile, self._rng)

    def explain(self, request: RequestFacts, now_s: float, *, show_ineligible: bool = True) -> dict[str, object]:
        """What `decide` would choose now, in words; changes nothing, not even the next draw."""
        fleet = self._view.snapshot(now_s)
        decision = decide(request, fleet, self._profile, copy.copy(self._rng))
        return explain(request, decision, fleet, self._profile, show_ineligible=show_ineligible)

    def dispatch(self, decision: Decision, request: RequestFacts, now_s: float) -> Attempt:
        """Take the lease on the chosen pool. Raises ValueError on a decision without a pool."""
        if not decision.pool:
            raise ValueError("a decision without a pool cannot be dispatched")
        request.attempts += 1
        lease = self._ledger.lease(decision.pool, request.model, request.rows, request.nbytes, now_s)
        return Attempt(request, lease, decision.predicted_s, now_s)

    def on_refused(self, attempt: Attempt) -> CapacityError:
        """The pool's queue took it not: nothing was sent. It may be decided again, without this pool.

        The error returned ends the request if there is no other pool (`last_error` of no_pool_error).
        """
        request = attempt.request
        self._ledger.release(attempt.lease, "ignored")
        request.attempts -= 1
        request.tried += (attempt.lease.pool,)
        return CapacityError("saturated", "the queue of the pool is full", retry_after_s=attempt.predicted_s)

    def on_answer(self, attempt: Attempt, answer: Answer, now_s: float) -> None:
        """It was answered: the batch it ran in corrects the estimate, where the replica said which."""
        lease = attempt.lease
        self._ledger.release(lease, "success")
        size = answer.batch_rows
        if size > 0:
            self._view.observe(lease.pool, lease.model, size, answer.run_us * 1e-6, lease.rows / size, now_s)

    def on_dropped(self, attempt: Attempt, now_s: float) -> None:
        """Nobody waits for it any more: the deadline passed, or the client went away."""
        self._ledger.release(attempt.lease, "dropped")

    def on_failure(self, attempt: Attempt, retryable: bool, now_s: float) -> bool:
        """It failed. True if the request may be decided again, on what is left of the same deadline.

        `retryable`: it never reached a model, or running it again does no harm. The pool counts as tried once no
        replica is left in it that has not failed this request; report a lost replica to the view before this.
        """
        lease, request = attempt.lease, attempt.request
        self._ledger.release(lease, "ignored")
        if attempt.replica:
            request.tried_replicas += (attempt.replica,)
        if not self._view.able(lease.pool, lease.model, request.tried_replicas):
            request.tried += (lease.pool,)
        return retryable and request.attempts < self._max_attempts and request.deadline_s > now_s
