"""Pickers: which of the scored pools is taken."""

import random
from collections import Counter

from router.core.decision import Scored
from router.core.pickers.max_score import max_score
from router.core.pickers.power_of_two import power_of_two


def scored(*scores, predicted_s=0.1):
    return [Scored(f"p{at}", score, predicted_s, {}, 1.0) for at, score in enumerate(scores)]


def test_max_score_takes_the_best_and_of_equals_the_first():
    """Config order decides between equals."""
    assert max_score(scored(1.0, 3.0, 2.0), random.Random(0)) == 1
    assert max_score(scored(2.0, 3.0, 3.0), random.Random(0)) == 1


def test_power_of_two_takes_the_only_one():
    """One candidate needs no draw."""
    assert power_of_two(scored(0.1), random.Random(0)) == 0


def test_power_of_two_of_two_takes_the_better():
    """Both are drawn, whatever the seed."""
    assert {power_of_two(scored(1.0, 2.0), random.Random(seed)) for seed in range(50)} == {1}


def test_power_of_two_never_takes_the_worst_and_spreads_over_equals():
    """The worst of three loses each draw it is in; four equals get a quarter each."""
    rng = random.Random(3)
    assert Counter(power_of_two(scored(1.0, 2.0, 3.0), rng) for _ in range(300))[0] == 0
    taken = Counter(power_of_two(scored(1.0, 1.0, 1.0, 1.0), rng) for _ in range(4000))
    assert all(850 < taken[at] < 1150 for at in range(4))


def test_power_of_two_breaks_ties_by_the_sooner_answer():
    """Saturated scores are equal; the shorter queue wins."""
    pools = [*scored(1.0, predicted_s=0.2), *scored(1.0, predicted_s=0.1)]
    assert {power_of_two(pools, random.Random(seed)) for seed in range(50)} == {1}
