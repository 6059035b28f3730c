"""The cycle: the order of steps, one lease per attempt, one retry loop on one deadline."""

import random

import pytest

from router.core.decision import Reason
from router.core.eligibility import EligibilityRow, Verdict
from router.core.facts import AcceleratorFacts, PoolFacts
from router.core.outcome import no_pool_error
from router.core.pickers.power_of_two import power_of_two
from router.core.profile import FILTERS, RoutingProfile, default_profile
from router.core.request import RequestFacts
from router.protocol.link import Answer, ModelGrant
from router.service.cycle import Cycle
from router.state.fleet_view import FleetView
from router.state.inflight import LeaseError, Ledger

CURVE = [(1, 0.010), (8, 0.024)]
GRANT = ModelGrant("m", "1", 8, 10, 1 << 20, CURVE)


class House:
    """A cycle over pools a and b, a with two replicas."""

    def __init__(self, profile=None, **options):
        self.ledger = Ledger()
        pools = [PoolFacts(n, AcceleratorFacts("x86-cpu"), "r", "cpu", False, {}, 1.0, ("m",)) for n in ("a", "b")]
        self.view = FleetView(pools, self.ledger, queue_items=0)
        for pool, replica in (("a", "a1"), ("a", "a2"), ("b", "b1")):
            self.view.replica_up(pool, replica, [GRANT])
        self.cycle = Cycle(self.view, self.ledger, profile or default_profile(), random.Random(5), **options)

    def send(self, request, now_s=0.0, replica=""):
        attempt = self.cycle.dispatch(self.cycle.decide(request, now_s), request, now_s)
        attempt.replica = replica
        return attempt

    def held(self):
        return {pool: self.ledger.held(pool).requests for pool in ("a", "b")}


def request(*pools, deadline_s=1.0):
    row = EligibilityRow("v1", {name: Verdict(True, "may", "") for name in pools or ("a", "b")})
    return RequestFacts("r", "t", "m", "", 2, 64, 0.0, deadline_s, 0.1, 0, row)


def answer(batch_rows=8, run_us=24_000):
    return Answer(1, "", "", True, 0, 0, run_us, batch_rows, [])


@pytest.fixture
def house():
    return House()


def test_an_answered_request_leaves_nothing_behind(house):
    """Lease taken at dispatch, given back at the answer."""
    attempt = house.send(request())
    assert (attempt.lease.pool, attempt.sent_s, house.held()) == ("a", 0.0, {"a": 1, "b": 0})
    assert attempt.predicted_s == pytest.approx(0.012)
    house.cycle.on_answer(attempt, answer(), 0.02)
    assert (attempt.lease.outcome, house.held()) == ("success", {"a": 0, "b": 0})


def test_answers_teach_the_next_decision(house):
    """Ten times slower than granted: the next request expects it."""
    for tick in range(100):
        asked = request("a", deadline_s=9.0)
        house.cycle.on_answer(house.send(asked, tick * 0.01), answer(run_us=240_000), tick * 0.01)
    assert house.cycle.decide(request("a", deadline_s=9.0), 1.0).predicted_s > 0.09


def test_an_answer_that_does_not_tell_its_batch_teaches_nothing(house):
    """Upstreams that report nothing leave the curve as it is."""
    house.cycle.on_answer(house.send(request()), answer(batch_rows=0, run_us=0), 0.0)
    assert house.cycle.decide(request(), 0.0).predicted_s == pytest.approx(0.012)


def test_a_dropped_request_gives_its_lease_back(house):
    """Client gone or deadline passed."""
    attempt = house.send(request())
    house.cycle.on_dropped(attempt, 0.5)
    assert (attempt.lease.outcome, house.held()["a"]) == ("dropped", 0)


def test_an_attempt_ends_once(house):
    """Answered and then dropped is a bug, and says so."""
    attempt = house.send(request())
    house.cycle.on_answer(attempt, answer(), 0.02)
    with pytest.raises(LeaseError):
        house.cycle.on_dropped(attempt, 0.5)


def test_nothing_is_dispatched_without_a_pool(house):
    """The driver ends the request with no_pool_error instead."""
    asked = request("nowhere")
    decision = house.cycle.decide(asked, 0.0)
    with pytest.raises(ValueError, match="without a pool"):
        house.cycle.dispatch(decision, asked, 0.0)
    assert house.held() == {"a": 0, "b": 0}


def test_a_failure_on_one_replica_leaves_the_others_of_the_pool(house):
    """a1 failed it, a2 may have it; when both failed, the pool has been tried."""
    asked = request()
    attempt = house.send(asked, replica="a1")
    assert house.cycle.on_failure(attempt, True, 0.1)
    assert (attempt.lease.outcome, asked.tried, asked.tried_replicas) == ("ignored", (), ("a1",))
    assert house.cycle.on_failure(house.send(asked, 0.1, replica="a2"), True, 0.2)
    assert (asked.tried, house.cycle.decide(asked, 0.2).pool) == (("a",), "b")


def test_a_lost_replica_is_not_counted_as_another_one(house):
    """The last other replica is gone when the failure is told."""
    asked = request()
    attempt = house.send(asked, replica="a1")
    house.view.replica_down("a", "a2")
    house.cycle.on_failure(attempt, True, 0.1)
    assert asked.tried == ("a",)


def test_a_retry_stays_inside_policy(house):
    """Only b is left, and b is not allowed: no pool."""
    asked = request("a")
    for replica in ("a1", "a2"):
        house.cycle.on_failure(house.send(asked, replica=replica), True, 0.1)
    decision = house.cycle.decide(asked, 0.2)
    assert {r.pool: r.reason for r in decision.rejected} == {"a": Reason.TRIED, "b": Reason.POLICY}


def test_attempts_are_limited():
    """Two at most here, the first one included."""
    house, asked = House(max_attempts=2), request()
    assert house.cycle.on_failure(house.send(asked, replica="a1"), True, 0.1)
    assert not house.cycle.on_failure(house.send(asked, replica="a2"), True, 0.1)
    assert asked.attempts == 2


def test_no_retry_once_the_deadline_has_passed_or_where_it_does_harm(house):
    """The same deadline for all attempts; the lease is given back all the same."""
    assert not house.cycle.on_failure(house.send(request(deadline_s=0.5)), True, 0.5)
    assert not house.cycle.on_failure(house.send(request()), False, 0.1)
    assert house.held() == {"a": 0, "b": 0}


def test_a_refused_send_is_no_attempt_and_the_next_pool_is_asked(house):
    """The queue was full after all: go elsewhere, and if there is nowhere, it is saturation."""
    asked = request()
    house.cycle.on_refused(house.send(asked))
    attempt = house.send(asked)
    assert (asked.attempts, attempt.lease.pool) == (1, "b")
    error = house.cycle.on_refused(attempt)
    decision = house.cycle.decide(asked, 0.0)
    assert decision.pool == ""
    assert no_pool_error(decision, asked, error) is error
    assert (error.reason, error.retry_after_s) == ("saturated", pytest.approx(0.012))
    assert house.held() == {"a": 0, "b": 0}


def test_explain_shows_the_next_decision_and_does_not_disturb_it():
    """Random pickers are explained with the draw that comes next."""
    profile = RoutingProfile("p2c", FILTERS, default_profile().scorers, power_of_two)
    house = House(profile)
    for _ in range(20):
        told = house.cycle.explain(request(), 0.0)
        assert told == house.cycle.explain(request(), 0.0)
        assert told["chosen"] == house.cycle.decide(request(), 0.0).pool
    assert house.held() == {"a": 0, "b": 0}
