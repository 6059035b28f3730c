"""Keeps pools that can start work for this request now: not tried in vain, not leaving, some replica ready."""

from __future__ import annotations

from router.core.decision import Reason
from router.core.plugins import Candidate
from router.core.request import RequestFacts

_TRIED, _DRAINING, _NOT_READY, _SATURATED = Reason.TRIED, Reason.DRAINING, Reason.NOT_READY, Reason.SATURATED


def readiness(request: RequestFacts, candidate: Candidate, now_s: float) -> Reason | None:
    """Reads tried, draining, ready_replicas and whether the model has a curve: unmeasured is not ready.

    A model that every replica has closed for a while because it is full is saturated.
    """
    pool = candidate.pool
    if request.tried and pool.name in request.tried:
        return _TRIED
    if pool.draining:
        return _DRAINING
    if pool.ready_replicas < 1 or not candidate.serving.curve:
        return _SATURATED if candidate.serving.full else _NOT_READY
    return None
