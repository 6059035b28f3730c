"""Which error ends a request without a pool: each reason, mixtures, and what must not show."""

import pytest
from core_builders import choose, pool, request, verdicts

from router.core.eligibility import EligibilityRow
from router.core.errors import CapacityError, RequestError, UpstreamError
from router.core.outcome import no_pool_error, unknown_model

LOADED = {"waiting": {"m": 64}}  # 8 full batches and its own: 202 ms
ASKED = {"deadline_s": 0.100}


def error(asked, *pools, last_error=None):
    decision = choose(asked, *pools)
    assert decision.pool == ""
    return no_pool_error(decision, asked, last_error)


def test_policy_alone_is_a_denial():
    """Every pool is out of bounds."""
    found = error(request(eligible=verdicts(denied=("a",))), pool("a"), pool("b"))
    assert (type(found), found.reason) == (RequestError, "policy_denied")


@pytest.mark.parametrize(
    ("own", "version"), [([], ""), ([], "7"), ([pool("a", models={})], ""), ([pool("a", version="9")], "7")]
)
def test_a_model_that_the_tenant_may_not_know_of_is_unknown(own, version):
    """In the words for one that does not exist, whatever its other pools are like."""
    row = EligibilityRow("v1", verdicts("a", denied=("b",)).verdicts, visible=False)
    found = error(request(eligible=row, version=version), *own, pool("b"))
    assert (found.reason, found.detail) == ("model_not_found", unknown_model("m", version).detail)


@pytest.mark.parametrize(
    ("pools", "reason"),
    [
        ([pool("a", models={})], "model_not_found"),
        ([pool("a", version="9"), pool("b", models={})], "model_not_found"),
        ([pool("a", max_rows=1), pool("b", models={})], "too_large"),
        ([pool("a", inflight=100)], "saturated"),
        ([pool("a", **LOADED)], "saturated"),
        ([pool("a", ready_replicas=0)], "no_ready_pool"),
        ([pool("a", draining=True)], "no_ready_pool"),
        ([pool("a", curve=((1, 5.0),))], "deadline_unmeetable"),
    ],
)
def test_one_kind_of_reason_has_its_error(pools, reason):
    """Rows: 2, version 1, 100 ms left."""
    assert error(request("a", "b", rows=2, version="1", **ASKED), *pools).reason == reason


@pytest.mark.parametrize(
    ("pools", "reason"),
    [
        ([pool("a", inflight=100), pool("b", ready_replicas=0), pool("c", models={})], "saturated"),
        ([pool("a", **LOADED), pool("b", curve=((1, 5.0),))], "saturated"),
        ([pool("a", ready_replicas=0), pool("b", curve=((1, 5.0),)), pool("c", max_rows=1)], "no_ready_pool"),
        ([pool("a", curve=((1, 5.0),)), pool("b", max_rows=1)], "deadline_unmeetable"),
        ([pool("a", max_rows=1), pool("b", version="9"), pool("c", models={})], "too_large"),
    ],
)
def test_of_mixed_reasons_the_one_that_helps_soonest_wins(pools, reason):
    """Wait, come back, ask for more time, ask for less work, ask for something else: in this order."""
    assert error(request("a", "b", "c", rows=2, version="1", **ASKED), *pools).reason == reason


def test_retry_after_is_when_the_soonest_pool_is_predicted_to_do():
    """202 ms predicted, 100 ms left: the queue is short enough after 102 ms; the full pool drains in 10 ms."""
    asked = request("a", "b", **ASKED)
    assert error(asked, pool("a", **LOADED)).retry_after_s == pytest.approx(0.102)
    assert error(asked, pool("a", **LOADED), pool("b", inflight=100)).retry_after_s == pytest.approx(0.010)


def test_an_unmeetable_deadline_names_the_best_predicted_time():
    """The client can set a deadline that works."""
    found = error(request("a", "b", deadline_s=0.009), pool("a"), pool("b", curve=((1, 5.0),)))
    assert (type(found), found.reason, found.retry_after_s) == (CapacityError, "deadline_unmeetable", None)
    assert "9 ms are left" in found.detail
    assert "10 ms" in found.detail


def test_after_a_failed_attempt_its_own_error_is_told():
    """No other pool: what happened matters more than that nothing is left."""
    lost = UpstreamError("backend_lost", "gone")
    asked = request("a", "b", tried=("a",))
    assert error(asked, pool("a"), pool("b", ready_replicas=0), last_error=lost) is lost
    assert error(asked, pool("a"), last_error=None).reason == "no_ready_pool"
    assert error(asked, pool("a"), pool("b", inflight=100), last_error=lost).reason == "saturated"


def test_ineligible_pools_neither_change_the_answer_nor_show_their_names():
    """A saturated pool that is out of bounds does not turn a 404 into a 429."""
    hidden = [pool("secret-1", inflight=100), pool("secret-2", ready_replicas=0), pool("secret-3", **LOADED)]
    for own in ({"models": {}}, {"ready_replicas": 0}, {"max_rows": 0}, {"inflight": 100}):
        asked = request(eligible=verdicts("a", denied=("secret-1",)), **ASKED)
        alone, beside = error(asked, pool("a", **own)), error(asked, *hidden, pool("a", **own))
        assert (alone.reason, alone.detail, alone.retry_after_s) == (
            beside.reason,
            beside.detail,
            beside.retry_after_s,
        )
        assert "secret" not in beside.detail


def test_an_empty_fleet_is_not_ready():
    """No pool configured is nobody's denial."""
    assert error(request()).reason == "no_ready_pool"
