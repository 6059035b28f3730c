"""Explain: the decision in plain values and words."""

import random

import msgspec
import pytest
from core_builders import CURVE, pool, request, verdicts

from router.core.decide import decide
from router.core.decision import Reason
from router.core.explain import explain
from router.core.facts import Emulation
from router.core.fleet import FleetSnapshot, ServingView
from router.core.profile import default_profile


def told(asked, *pools, **options):
    fleet, profile = FleetSnapshot(0.0, pools), default_profile()
    decision = decide(asked, fleet, profile, random.Random(0))
    story = explain(asked, decision, fleet, profile, **options)
    return story, {entry["pool"]: entry for entry in story["pools"]}


def test_it_tells_status_reason_and_scores_of_every_pool():
    """Chosen, runner-up, denied: in config order."""
    asked = request(eligible=verdicts("a", "b", denied=("c",)))
    story, pools = told(asked, pool("c"), pool("a"), pool("b", cost=2.0))
    assert (story["chosen"], story["runner_up"], story["policy_version"]) == ("a", "b", "v1")
    assert story["weights"] == {"latency": 8.0, "headroom": 1.0, "cost": 1.0}
    assert list(pools) == ["c", "a", "b"]
    assert [pools[p]["status"] for p in "cab"] == ["rejected", "chosen", "candidate"]
    assert pools["c"]["words"] == "c is not for you"
    assert pools["c"]["rule"] == "must-not"
    assert pools["a"]["score"] == pytest.approx(10.0)
    assert pools["b"]["parts"]["cost"] == 0.5
    assert pools["b"]["words"] == "score 9.500; 'a' was picked with 10.000"


def test_it_tells_the_variant_and_whose_times_a_pool_keeps():
    """An assumed time, stretched, says so; real hardware has none but its own."""
    half = {"m": ServingView("1", 8, CURVE, "fp16")}
    _, pools = told(request("a", "b"), pool("a", models=half), pool("b", emulation=Emulation("assumed", 40.0)))
    assert (pools["a"]["variant"], pools["a"]["emulation"]) == ("fp16", None)
    assert (pools["b"]["variant"], pools["b"]["emulation"]) == ("", {"basis": "assumed", "time_scale": 40.0})


def test_it_can_be_sent_as_it_is():
    """Plain values only: JSON and back changes nothing."""
    story, _ = told(request("a"), pool("a"), pool("b"))
    assert msgspec.json.decode(msgspec.json.encode(story)) == story


def test_ineligible_pools_can_be_left_out():
    """For a reader who must not learn their names."""
    story, pools = told(request("a"), pool("a"), pool("b"), show_ineligible=False)
    assert list(pools) == ["a"]
    assert "'b'" not in repr(story)


WRONG = {
    Reason.TRIED: (pool(), {"tried": ("a",)}, "already failed"),
    Reason.MODEL: (pool(models={}), {}, "does not serve 'm'"),
    Reason.VERSION: (pool(), {"version": "2"}, "serves version '1', not '2'"),
    Reason.NOT_READY: (pool(ready_replicas=0), {}, "no replica is ready"),
    Reason.DRAINING: (pool(draining=True), {}, "leaving"),
    Reason.SATURATED: (pool(inflight=100), {}, "100 requests in flight of at most 100"),
    Reason.TOO_MANY_ROWS: (pool(), {"rows": 9}, "9 rows, at most 8"),
    Reason.DEADLINE_LOADED: (pool(waiting={"m": 64}), {"deadline_s": 0.1}, "202 ms as loaded now, 10 ms when idle"),
    Reason.DEADLINE_NEVER: (pool(), {"deadline_s": 0.005}, "10 ms even when idle, 5 ms left"),
    Reason.POLICY: (pool(), {"eligible": verdicts()}, "no policy verdict"),
}


@pytest.mark.parametrize("reason", WRONG)
def test_every_rejection_is_put_in_words_with_its_numbers(reason):
    """What an operator would ask next is in the sentence."""
    view, asked, words = WRONG[reason]
    story, pools = told(request(**asked), view)
    assert story["chosen"] is None
    assert pools["a"]["reason"] == reason.value
    assert words in pools["a"]["words"]
