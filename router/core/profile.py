"""A routing profile: which filters, scorers and picker a decision uses, and with what weights. Holds no state."""

from __future__ import annotations

import msgspec

from router.core.filters.capacity import capacity
from router.core.filters.deadline import deadline
from router.core.filters.model import model
from router.core.filters.readiness import readiness
from router.core.pickers.max_score import max_score
from router.core.plugins import Filter, Picker, Scorer
from router.core.scorers.cost import Cost
from router.core.scorers.headroom import Headroom
from router.core.scorers.latency import Latency

FILTERS: tuple[Filter, ...] = (model, readiness, capacity, deadline)
"""The order in which an eligible pool is asked; the first no is its reason."""


class RoutingProfile(msgspec.Struct, frozen=True):
    """`filters` follow policy, which is always first and not listed. Raises ValueError without a scorer, on a weight
    that is not positive, or on a scorer named twice."""

    name: str
    filters: tuple[Filter, ...]
    scorers: tuple[tuple[Scorer, float], ...]
    """(scorer, weight > 0). A pool's score is the weighted sum plus policy's preference."""
    picker: Picker

    def __post_init__(self) -> None:
        names = [scorer.name for scorer, _ in self.scorers]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"profile {self.name!r}: scorers must be at least one, each once; got {names}")
        if any(not weight > 0 for _, weight in self.scorers):
            raise ValueError(f"profile {self.name!r}: every weight must be above 0")

    @property
    def weights(self) -> dict[str, float]:
        """Weight by scorer name."""
        return {scorer.name: weight for scorer, weight in self.scorers}


def default_profile() -> RoutingProfile:
    """In time first, then room and price.

    8 x (1 - 0.7) > 1 + 1: a pool predicted to miss the latency target loses to one comfortably inside it, whatever room
    and price say. Inside the target, price and room decide alone.
    """
    return RoutingProfile("default", FILTERS, ((Latency(), 8.0), (Headroom(), 1.0), (Cost(), 1.0)), max_score)
