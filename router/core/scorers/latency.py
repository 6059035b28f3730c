"""Scores the predicted completion against the latency target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from router.core.plugins import Candidate
from router.core.request import RequestFacts


class Latency(msgspec.Struct, frozen=True):
    """1.0 while predicted <= `share` of what is left of the target; beyond it, limit / predicted.

    Where no candidate keeps the limit, the fastest sets it: it scores 1.0 and the others fall behind in proportion.
    """

    name: ClassVar[str] = "latency"
    share: float = 0.7
    """In (0, 1]: the rest of the target is left for what a median does not say."""

    def score(self, request: RequestFacts, candidates: Sequence[Candidate], now_s: float) -> list[float]:
        """Scores in (0, 1]."""
        limit_s = self.share * (request.arrived_s + request.target_s - now_s)
        predicted = [c.predicted_s for c in candidates]
        if max(predicted) <= limit_s:
            return [1.0] * len(predicted)
        limit_s = max(limit_s, min(predicted))
        return [1.0 if p <= limit_s else limit_s / p for p in predicted]
