"""Scores what is free of a pool's capacity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from router.core.fleet import PoolView
from router.core.plugins import Candidate
from router.core.request import RequestFacts


class Headroom(msgspec.Struct, frozen=True):
    """1.0 while more than `share` of the capacity is free; below it, falls in proportion to 0.0 when full."""

    name: ClassVar[str] = "headroom"
    share: float = 0.3
    """In (0, 1]: the comfortable free share."""

    def score(self, request: RequestFacts, candidates: Sequence[Candidate], now_s: float) -> list[float]:
        """Scores in [0, 1]; 0.0 for a pool without capacity."""
        keep = 1.0 - self.share
        return [
            1.0 if (pool := c.pool).inflight < keep * pool.capacity else min(1.0, _free(pool) / self.share)
            for c in candidates
        ]


def _free(pool: PoolView) -> float:
    """Free share of the capacity, in [0, 1]."""
    return max(0.0, 1.0 - pool.inflight / pool.capacity) if pool.capacity > 0 else 0.0
