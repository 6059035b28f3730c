"""Scores a pool's cost against the cheapest candidate's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from router.core.plugins import Candidate
from router.core.request import RequestFacts


class Cost(msgspec.Struct, frozen=True):
    """Cheapest candidate's cost / cost, so the cheapest scores 1.0. Costs are as configured, and positive."""

    name: ClassVar[str] = "cost"

    def score(self, request: RequestFacts, candidates: Sequence[Candidate], now_s: float) -> list[float]:
        """Scores in (0, 1]."""
        costs = [c.pool.cost for c in candidates]
        cheapest = min(costs)
        return [cheapest / cost for cost in costs]
