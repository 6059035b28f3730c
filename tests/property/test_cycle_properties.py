"""Requests, answers, failures and fleet events in any order: the books stay right."""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from router.core.eligibility import EligibilityRow, Verdict
from router.core.facts import AcceleratorFacts, PoolFacts
from router.core.profile import default_profile
from router.core.request import RequestFacts
from router.protocol.link import Answer, Load, ModelGrant
from router.service.cycle import Cycle
from router.state.fleet_view import FleetView
from router.state.inflight import Ledger

POOLS = ("a", "b", "c")
pools = st.sampled_from(POOLS)
replicas = st.sampled_from(["1", "2"])
MAX_ATTEMPTS = 3


class CycleMachine(RuleBasedStateMachine):
    """Drives a cycle as the handler would; `attempts` are the open ones."""

    attempts = Bundle("attempts")

    def __init__(self):
        super().__init__()
        self.now_s = 0.0
        self.ledger = Ledger()
        facts = [PoolFacts(n, AcceleratorFacts("x"), "r", "cpu", False, {}, 1.0, ("m",)) for n in POOLS]
        self.view = FleetView(facts, self.ledger, queue_items=1)
        self.cycle = Cycle(self.view, self.ledger, default_profile(), random.Random(1), max_attempts=MAX_ATTEMPTS)
        self.open = []

    @rule(pool=pools, replica=replicas, seconds=st.floats(0.001, 0.1))
    def up(self, pool, replica, seconds):
        self.view.replica_up(pool, replica, [ModelGrant("m", "1", 8, 2, 1, [(1, seconds), (8, 2 * seconds)])])

    @rule(pool=pools, replica=replicas)
    def down(self, pool, replica):
        self.view.replica_down(pool, replica)

    @rule(pool=pools, replica=replicas, rows=st.integers(0, 50), draining=st.booleans())
    def report(self, pool, replica, rows, draining):
        self.view.load(pool, replica, Load({"m": rows}, draining, 0), self.now_s)

    @rule(seconds=st.floats(0.0, 2.0))
    def wait(self, seconds):
        self.now_s += seconds

    @rule(target=attempts, allowed=st.sets(pools), rows=st.integers(1, 9), budget_s=st.floats(0.0, 2.0))
    def ask(self, allowed, rows, budget_s):
        row = EligibilityRow("v", {name: Verdict(True, "", "") for name in allowed})
        now_s = self.now_s
        return self._send(RequestFacts("r", "t", "m", "", rows, rows, now_s, now_s + budget_s, 0.05, 0, row))

    def _send(self, request):
        decision = self.cycle.decide(request, self.now_s)
        if not decision.pool:
            return None
        assert decision.pool in request.eligible.verdicts
        assert decision.pool not in request.tried
        attempt = self.cycle.dispatch(decision, request, self.now_s)
        attempt.replica = "1"
        self.open.append(attempt)
        return attempt

    def _close(self, attempt):
        if attempt is not None:
            self.open.remove(attempt)
        return attempt is not None

    @rule(attempt=consumes(attempts), rows=st.integers(0, 8), run_us=st.integers(0, 10**6))
    def answered(self, attempt, rows, run_us):
        if self._close(attempt):
            self.cycle.on_answer(attempt, Answer(1, "", "", True, 0, 0, run_us, rows, []), self.now_s)

    @rule(attempt=consumes(attempts))
    def dropped(self, attempt):
        if self._close(attempt):
            self.cycle.on_dropped(attempt, self.now_s)

    @rule(target=attempts, attempt=consumes(attempts))
    def refused(self, attempt):
        if not self._close(attempt):
            return None
        self.cycle.on_refused(attempt)
        return self._send(attempt.request)

    @rule(target=attempts, attempt=consumes(attempts), retryable=st.booleans())
    def failed(self, attempt, retryable):
        if not self._close(attempt):
            return None
        request = attempt.request
        again = self.cycle.on_failure(attempt, retryable, self.now_s)
        assert not again or (retryable and request.attempts < MAX_ATTEMPTS and self.now_s < request.deadline_s)
        return self._send(request) if again else None

    @invariant()
    def the_ledger_holds_what_is_open(self):
        for pool in POOLS:
            here = [a.lease for a in self.open if a.lease.pool == pool]
            held = self.ledger.held(pool)
            assert held.requests == len(here)
            assert sum(held.rows.values()) == held.nbytes == sum(lease.rows for lease in here)

    @invariant()
    def the_snapshot_is_never_better_than_the_books(self):
        for pool in self.view.snapshot(self.now_s).pools:
            own = self.ledger.held(pool.name)
            assert pool.inflight == own.requests
            assert all(pool.waiting_rows[model] >= rows for model, rows in own.rows.items())
            assert (pool.ready_replicas > 0) == (pool.capacity > 0) == bool(pool.models["m"].curve)
            assert not (pool.draining and pool.ready_replicas)


TestCycle = CycleMachine.TestCase
TestCycle.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
