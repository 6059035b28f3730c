"""Keeps pools predicted to answer before the deadline, and says whether waiting would help the others."""

from __future__ import annotations

from router.core.decision import Reason
from router.core.plugins import Candidate
from router.core.predict import idle_s
from router.core.request import RequestFacts

_LOADED, _NEVER = Reason.DEADLINE_LOADED, Reason.DEADLINE_NEVER


def deadline(request: RequestFacts, candidate: Candidate, now_s: float) -> Reason | None:
    """Reads predicted_s against the time left; an answer predicted for the deadline itself is in time."""
    left_s = request.deadline_s - now_s
    if candidate.predicted_s <= left_s:
        return None
    return _LOADED if idle_s(candidate.serving, request.rows) <= left_s else _NEVER
