"""The decision: what follows from the default profile, and that it tells everything it knows."""

import msgspec
import pytest
from core_builders import choose, pool, reasons, request, verdicts

from router.core.decision import Reason
from router.core.profile import FILTERS, RoutingProfile, default_profile

FAST = pool("fast", curve=((1, 0.010), (8, 0.012)), cost=4.0)
CHEAP = pool("cheap", curve=((1, 0.050), (8, 0.090)), cost=1.0)


def test_a_tight_target_goes_to_the_faster_dearer_pool():
    """The cheap pool would take 50 ms; 40 ms are wanted."""
    assert choose(request("fast", "cheap", target_s=0.040), FAST, CHEAP).pool == "fast"


def test_a_loose_target_goes_to_the_cheaper_pool():
    """Both are in time, so only the price is left."""
    assert choose(request("fast", "cheap", target_s=0.200), FAST, CHEAP).pool == "cheap"


def test_a_pool_inside_the_target_beats_one_predicted_to_miss_it_whatever_price_and_room_say():
    """The default weights promise it: the costliest, fullest pool in time against the cheapest, emptiest late one."""
    in_time = msgspec.structs.replace(FAST, cost=1e6, inflight=99)
    assert choose(request("fast", "cheap", target_s=0.0499), in_time, CHEAP).pool == "fast"


def test_equal_pools_are_filled_one_after_the_other():
    """Packing: the first keeps all while it is in time with room, then the next one gets the overflow."""
    asked = request("a", "b", target_s=0.100)
    assert choose(asked, pool("a", waiting={"m": 7}, inflight=7), pool("b")).pool == "a"
    assert choose(asked, pool("a", waiting={"m": 24}, inflight=24), pool("b")).pool == "b"
    assert choose(asked, pool("a", inflight=80), pool("b")).pool == "b"


def test_policy_preference_is_added_to_the_score():
    """A preferred pool wins over a cheaper one; the preference shows in the score, not in the parts."""
    row = verdicts("fast", "cheap", prefer={"fast": 5.0})
    decision = choose(request(eligible=row, target_s=0.200), FAST, CHEAP)
    fast = decision.scores[0]
    assert decision.pool == "fast"
    assert fast.score == pytest.approx(8 * 1.0 + 1.0 + 0.25 + 5.0)
    assert fast.parts == {"latency": 1.0, "headroom": 1.0, "cost": 0.25}


def test_every_pool_not_chosen_has_its_reason():
    """Chosen, beaten, denied, full: one word each, none for the chosen."""
    asked = request(eligible=verdicts("fast", "cheap", "full", denied=("other",)), target_s=0.040)
    decision = choose(asked, FAST, CHEAP, pool("other"), pool("full", inflight=100))
    assert decision.pool == "fast"
    assert decision.predicted_s == pytest.approx(0.010)
    assert decision.policy_version == "v1"
    assert reasons(decision) == {
        "cheap": Reason.LOWER_SCORE,
        "other": Reason.POLICY,
        "full": Reason.SATURATED,
    }


def test_a_denied_pool_does_not_move_another_pools_score():
    """The cheapest pool sets the cost scale only if it may be used."""
    alone = choose(request("fast"), FAST)
    beside = choose(request("fast"), FAST, CHEAP)
    assert alone.scores == beside.scores


def test_an_empty_fleet_has_no_pool_and_no_reasons():
    """Nothing to choose from is not an error here."""
    assert choose(request()).rejected == []


def test_a_profile_must_be_able_to_score():
    """No scorer, one twice, or a weight that says nothing is refused when it is made."""
    scorer, picker = default_profile().scorers[0][0], default_profile().picker
    for scorers in ((), ((scorer, 1.0), (scorer, 2.0)), ((scorer, 0.0),), ((scorer, float("nan")),)):
        with pytest.raises(ValueError, match="profile 'p'"):
            RoutingProfile("p", FILTERS, scorers, picker)
