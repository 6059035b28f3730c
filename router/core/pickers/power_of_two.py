"""Takes the better of two candidates drawn at random.

That is spreading: many routers with views of different age do not all run to the same pool. A pool with a poor score is
still taken when both draws are poor; with few pools or one router prefer max_score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from router.core.decision import Scored

if TYPE_CHECKING:
    import random


def power_of_two(scores: Sequence[Scored], rng: random.Random) -> int:
    """Index of the higher score of two distinct ones; of equals the sooner predicted, then the first drawn."""
    count = len(scores)
    if count == 1:
        return 0
    first = rng.randrange(count)
    second = rng.randrange(count - 1)
    if second >= first:
        second += 1
    a, b = scores[first], scores[second]
    return second if (b.score, -b.predicted_s) > (a.score, -a.predicted_s) else first
