"""Scorers: in [0, 1], saturating, falling after."""

import pytest
from core_builders import pool, request

from router.core.plugins import UNSERVED, Candidate
from router.core.scorers.cost import Cost
from router.core.scorers.headroom import Headroom
from router.core.scorers.latency import Latency


def candidates(*predicted_s, **fields):
    return [Candidate(pool(**fields), UNSERVED, p, 0.0) for p in predicted_s]


def test_latency_is_full_while_the_prediction_keeps_its_share_of_the_target():
    """Target 100 ms, share 0.7: 70 ms and less are all as good, 140 ms is worth half."""
    scores = Latency(share=0.7).score(request(target_s=0.100), candidates(0.001, 0.070, 0.140), 0.0)
    assert scores == pytest.approx([1.0, 1.0, 0.5])


def test_latency_counts_the_target_from_arrival():
    """Half the target is gone: the limit is half as well."""
    asked = request(arrived_s=10.0, target_s=0.100)
    assert Latency(share=1.0).score(asked, candidates(0.050, 0.100), 10.050) == pytest.approx([1.0, 0.5])


def test_when_all_are_late_the_fastest_is_the_measure():
    """A target already missed still prefers the sooner answer."""
    assert Latency().score(request(target_s=0.001), candidates(0.2, 0.4), 5.0) == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize(
    ("inflight", "capacity", "score"),
    [(0, 10, 1.0), (6, 10, 1.0), (7, 10, 1.0), (8, 10, 2 / 3), (10, 10, 0.0), (12, 10, 0.0), (0, 0, 0.0)],
)
def test_headroom_is_full_while_enough_is_free(inflight, capacity, score):
    """Share 0.3: three of ten free are enough, two are two thirds of enough."""
    seen = candidates(0.1, inflight=inflight, capacity=capacity)
    assert Headroom(share=0.3).score(request(), seen, 0.0) == pytest.approx([score])


def test_cost_is_relative_to_the_cheapest_candidate():
    """Four times the price, a quarter of the score."""
    seen = [Candidate(pool(cost=c), UNSERVED, 0.1, 0.0) for c in (2.0, 0.5, 1.0)]
    assert Cost().score(request(), seen, 0.0) == [0.25, 1.0, 0.5]
