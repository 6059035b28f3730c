"""One decision: eligible, able, scored, picked. The only place that knows this order; pure."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from router.core.decision import Decision, Reason, Rejected, Scored
from router.core.filters.policy import eligible
from router.core.fleet import FleetSnapshot
from router.core.plugins import UNSERVED, Candidate
from router.core.predict import completion_s
from router.core.profile import RoutingProfile
from router.core.request import RequestFacts

if TYPE_CHECKING:
    import random

# Bound once: looking up an enum member costs more than building a Rejected.
_POLICY, _NARROWED, _LOWER_SCORE = Reason.POLICY, Reason.NARROWED, Reason.LOWER_SCORE


def decide(request: RequestFacts, fleet: FleetSnapshot, profile: RoutingProfile, rng: random.Random) -> Decision:
    """Choose a pool for the request, or none; each pool not chosen has exactly one reason.

    Words for people are left to explain.py: `Rejected.detail` stays empty here.
    """
    rejected: list[Rejected] = []
    candidates = _candidates(request, fleet, profile, rejected)
    version = request.eligible.version
    if not candidates:
        return Decision("", 0.0, [], rejected, fleet.taken_at_s, version)
    scores = _score(request, candidates, profile, fleet.taken_at_s)
    at = profile.picker(scores, rng)
    chosen = scores[at]
    for lost in scores:
        if lost is not chosen:
            rejected.append(Rejected(lost.pool, _LOWER_SCORE, "", lost.predicted_s))
    return Decision(chosen.pool, chosen.predicted_s, scores, rejected, fleet.taken_at_s, version)


def _candidates(
    request: RequestFacts, fleet: FleetSnapshot, profile: RoutingProfile, rejected: list[Rejected]
) -> list[Candidate]:
    """Pools that pass policy, what the request allows itself and every filter; the others go to `rejected`, with the
    first reason.
    """
    now_s = fleet.taken_at_s
    model, rows, filters, only = request.model, request.rows, profile.filters, request.only
    candidates = []
    for pool in fleet.pools:
        verdict = eligible(request, pool.name)
        if verdict is None:
            rejected.append(Rejected(pool.name, _POLICY))
            continue
        if only is not None and not only.admits(pool):
            rejected.append(Rejected(pool.name, _NARROWED))
            continue
        serving = pool.models.get(model, UNSERVED)
        predicted_s = completion_s(pool, model, serving, rows)
        candidate = Candidate(pool, serving, predicted_s, verdict.prefer)
        for check in filters:
            reason = check(request, candidate, now_s)
            if reason is not None:
                rejected.append(Rejected(pool.name, reason, "", predicted_s if predicted_s < inf else 0.0))
                break
        else:
            candidates.append(candidate)
    return candidates


def _score(request: RequestFacts, candidates: list[Candidate], profile: RoutingProfile, now_s: float) -> list[Scored]:
    """Weighted sums in the order of the candidates."""
    parts: list[dict[str, float]] = [{} for _ in candidates]
    totals = [c.prefer for c in candidates]
    for scorer, weight in profile.scorers:
        name = scorer.name
        for at, score in enumerate(scorer.score(request, candidates, now_s)):
            parts[at][name] = score
            totals[at] += weight * score
    return [
        Scored(c.pool.name, total, c.predicted_s, part, c.pool.cost)
        for c, total, part in zip(candidates, totals, parts, strict=True)
    ]
