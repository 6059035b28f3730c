"""Filters: each reason, and which one wins."""

import pytest
from core_builders import choose, pool, reasons, request, verdicts

from router.core.decision import Reason
from router.core.fleet import ServingView

UNMEASURED = {"m": ServingView("1", 8, ())}


@pytest.mark.parametrize(
    ("view", "asked", "reason"),
    [
        (pool(), {"eligible": verdicts()}, Reason.POLICY),
        (pool(), {"eligible": verdicts(denied=("a",))}, Reason.POLICY),
        (pool(), {"model": "other"}, Reason.MODEL),
        (pool(), {"version": "2"}, Reason.VERSION),
        (pool(), {"tried": ("a",)}, Reason.TRIED),
        (pool(draining=True, ready_replicas=0), {}, Reason.DRAINING),
        (pool(ready_replicas=0), {}, Reason.NOT_READY),
        (pool(models=UNMEASURED), {}, Reason.NOT_READY),
        (pool(models={"m": ServingView("", 0, ())}), {"version": "2"}, Reason.NOT_READY),
        (pool(), {"rows": 9}, Reason.TOO_MANY_ROWS),
        (pool(inflight=100), {}, Reason.SATURATED),
        (pool(capacity=0), {}, Reason.SATURATED),
        (pool(waiting={"m": 64}), {"deadline_s": 0.100}, Reason.DEADLINE_LOADED),
        (pool(waiting={"m": 64}), {"deadline_s": 0.009}, Reason.DEADLINE_NEVER),
        (pool(), {"deadline_s": 0.009}, Reason.DEADLINE_NEVER),
    ],
)
def test_a_pool_that_may_not_or_cannot_serve_is_rejected_with_its_reason(view, asked, reason):
    """One pool, one thing wrong with it."""
    decision = choose(request(**asked), view)
    assert decision.pool == ""
    assert decision.scores == []
    assert reasons(decision) == {"a": reason}


@pytest.mark.parametrize("asked", [{}, {"version": "1"}, {"rows": 8}, {"deadline_s": 0.010}])
def test_a_pool_that_may_and_can_is_kept(asked):
    """The limits themselves are still inside."""
    assert choose(request(**asked), pool()).pool == "a"


def test_policy_comes_before_everything_else():
    """A pool that is wrong in every way and not allowed is rejected by policy, on a retry as well."""
    wreck = pool(ready_replicas=0, draining=True, inflight=100, models={})
    decision = choose(request(eligible=verdicts(), tried=("a",), deadline_s=0.0), wreck)
    assert reasons(decision) == {"a": Reason.POLICY}
    assert decision.rejected[0].predicted_s == 0.0


def test_the_first_reason_in_order_wins():
    """Not served before draining, tried before saturated, rows before room, room before the deadline."""
    assert reasons(choose(request(model="x"), pool(draining=True))) == {"a": Reason.MODEL}
    assert reasons(choose(request(tried=("a",)), pool(inflight=100))) == {"a": Reason.TRIED}
    assert reasons(choose(request(rows=9), pool(inflight=100))) == {"a": Reason.TOO_MANY_ROWS}
    assert reasons(choose(request(deadline_s=0.0), pool(inflight=100))) == {"a": Reason.SATURATED}


def test_a_rejected_pool_keeps_its_prediction_where_there_is_one():
    """A saturated pool says how long it would take; one without replicas has nothing to say."""
    assert choose(request(), pool(inflight=100)).rejected[0].predicted_s == pytest.approx(0.010)
    assert choose(request(), pool(ready_replicas=0)).rejected[0].predicted_s == 0.0


def test_the_deadline_is_a_moment_not_a_duration():
    """What was left at arrival is not what is left now."""
    late = request(arrived_s=100.0, deadline_s=100.015)
    assert choose(late, pool(), now_s=100.0).pool == "a"
    assert reasons(choose(late, pool(), now_s=100.010)) == {"a": Reason.DEADLINE_NEVER}
