"""Keeps pools with room for the request: in one batch, and in what this router may have open there."""

from __future__ import annotations

from router.core.decision import Reason
from router.core.plugins import Candidate
from router.core.request import RequestFacts

_TOO_MANY_ROWS, _SATURATED = Reason.TOO_MANY_ROWS, Reason.SATURATED


def capacity(request: RequestFacts, candidate: Candidate, now_s: float) -> Reason | None:
    """Reads rows against max_rows, and inflight against capacity."""
    pool = candidate.pool
    if request.rows > candidate.serving.max_rows:
        return _TOO_MANY_ROWS
    if pool.inflight >= pool.capacity:
        return _SATURATED
    return None
