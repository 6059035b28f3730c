"""What a request forbids itself: it leaves pools out that policy allows, and never brings one in."""

import random

import pytest
from core_builders import choose, pool, reasons, request, verdicts

from router.core.decide import decide
from router.core.decision import Reason
from router.core.explain import explain
from router.core.filters.narrowing import Narrowing
from router.core.fleet import FleetSnapshot
from router.core.outcome import no_pool_error
from router.core.profile import RoutingProfile, default_profile
from router.core.scorers.cost import Cost

H20 = pool("h20", accelerator="nvidia-h20", region="cn", cost=50.0)
A100 = pool("a100", accelerator="nvidia-a100", region="us")
POOLS = (H20, A100)


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        (None, "a100"),
        (Narrowing(("nvidia-h20",)), "h20"),
        (Narrowing((), ("cn",)), "h20"),
        (Narrowing(("nvidia-h20", "nvidia-a100")), "a100"),
        (Narrowing(("nvidia-h20", "nvidia-a100"), ("cn",)), "h20"),
        (Narrowing(("nvidia-h20",), ("us",)), ""),
        (Narrowing(("no-such",)), ""),
        (Narrowing((), ("no-such",)), ""),
        (Narrowing(emulated=False), "a100"),
        (Narrowing(("nvidia-h20",), emulated=True), ""),
    ],
)
def test_only_pools_within_it_are_looked_at(only, chosen):
    """Class and region, each where it is said; a name that nobody has leaves no pool."""
    assert choose(request("h20", "a100", only=only), *POOLS).pool == chosen


def test_it_never_brings_in_what_policy_denies():
    """And the reason of such a pool stays policy's."""
    row = verdicts("a100", denied=("h20",))
    decision = choose(request(eligible=row, only=Narrowing(("nvidia-h20",))), *POOLS)
    assert decision.pool == ""
    assert reasons(decision) == {"h20": Reason.POLICY, "a100": Reason.NARROWED}


def test_no_profile_can_leave_it_out():
    """Not even one without any filter."""
    profile = RoutingProfile("bare", (), ((Cost(), 1.0),), lambda scores, rng: 0)
    decision = choose(request("h20", "a100", only=Narrowing(("nvidia-h20",))), *POOLS, profile=profile)
    assert (decision.pool, reasons(decision)) == ("h20", {"a100": Reason.NARROWED})


def test_where_nothing_is_left_the_client_is_told_that_it_is_its_own_doing():
    """403 in words, without the name of any pool."""
    asked = request("h20", "a100", only=Narrowing(("nvidia-h20",), ("us",)))
    error = no_pool_error(choose(asked, *POOLS), asked)
    assert error.reason == "policy_denied"
    assert "nvidia-h20 in us" in error.detail
    assert "a100" not in error.detail


def test_a_pool_within_it_that_is_busy_is_waited_for():
    """429 tells more than 403."""
    asked = request("h20", "a100", only=Narrowing(("nvidia-h20",)))
    full = pool("h20", accelerator="nvidia-h20", inflight=100)
    assert no_pool_error(choose(asked, full, A100), asked).reason == "saturated"


def test_explain_says_it():
    """For each pool that is left out."""
    asked = request("h20", "a100", only=Narrowing((), ("cn",)))
    fleet = FleetSnapshot(0.0, POOLS)
    told = explain(asked, decide(asked, fleet, default_profile(), random.Random(7)), fleet, default_profile())
    (a100,) = [each for each in told["pools"] if each["pool"] == "a100"]
    assert a100["reason"] == "narrowed"
    assert a100["words"] == "the request keeps itself to any class in cn; this is nvidia-a100 in us"
