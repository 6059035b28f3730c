"""Keeps pools that are configured to serve the request's model, in the version asked for."""

from __future__ import annotations

from router.core.decision import Reason
from router.core.plugins import UNSERVED, Candidate
from router.core.request import RequestFacts

_MODEL, _VERSION = Reason.MODEL, Reason.VERSION


def model(request: RequestFacts, candidate: Candidate, now_s: float) -> Reason | None:
    """Reads models and version. A version nobody has reported yet is left to readiness."""
    serving = candidate.serving
    if serving is UNSERVED:
        return _MODEL
    if request.version and serving.version and serving.version != request.version:
        return _VERSION
    return None
