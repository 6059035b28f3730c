"""Takes the best score; of equals, the first in config order.

That is packing: because scores saturate, equal pools tie and are filled one after the other, the next only when the
one before no longer keeps the latency limit or has little room. Batches are larger than if requests were spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from router.core.decision import Scored

if TYPE_CHECKING:
    import random


def max_score(scores: Sequence[Scored], rng: random.Random) -> int:
    """Index of the highest score. `rng` is not used."""
    totals = [s.score for s in scores]
    return totals.index(max(totals))
