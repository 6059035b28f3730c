"""A decision in words: plain values for people and for /v1/explain. Reads the decision; never decides again."""

from __future__ import annotations

import msgspec

from router.core.decision import Decision, Reason, Rejected, Scored
from router.core.eligibility import NO_VERDICT
from router.core.fleet import FleetSnapshot, PoolView
from router.core.plugins import UNSERVED
from router.core.predict import idle_s
from router.core.profile import RoutingProfile
from router.core.request import RequestFacts


def explain(
    request: RequestFacts,
    decision: Decision,
    fleet: FleetSnapshot,
    profile: RoutingProfile,
    *,
    show_ineligible: bool = True,
) -> dict[str, object]:
    """Why the decision fell as it did. `fleet` is the snapshot it was taken on; every time is in seconds.

    With show_ineligible False, pools that policy does not allow are left out, so that their names do not leak.
    """
    scores = {s.pool: s for s in decision.scores}
    rejected = {r.pool: r for r in decision.rejected}
    lost = [s for s in decision.scores if s.pool != decision.pool]
    runner_up = max(lost, key=lambda s: s.score, default=None)
    pools = []
    for pool in fleet.pools:
        why = rejected.get(pool.name)
        if why is None or why.reason is not Reason.POLICY or show_ineligible:
            pools.append(_pool(pool, request, decision, scores.get(pool.name), why))
    return {
        "request_id": request.request_id,
        "tenant": request.tenant,
        "model": request.model,
        "version": request.version,
        "rows": request.rows,
        "target_s": request.target_s,
        "left_s": request.deadline_s - decision.taken_at_s,
        "policy_version": decision.policy_version,
        "profile": profile.name,
        "weights": profile.weights,
        "chosen": decision.pool or None,
        "predicted_s": decision.predicted_s if decision.pool else None,
        "runner_up": runner_up.pool if runner_up else None,
        "pools": pools,
    }


def _pool(
    pool: PoolView, request: RequestFacts, decision: Decision, scored: Scored | None, why: Rejected | None
) -> dict[str, object]:
    """One pool: status is chosen, candidate (passed every filter) or rejected. Scores only where it was scored."""
    verdict = request.eligible.verdicts.get(pool.name, NO_VERDICT)
    predicted_s = scored.predicted_s if scored else why.predicted_s if why else 0.0
    entry: dict[str, object] = {
        "pool": pool.name,
        "accelerator": pool.accelerator,
        "emulated": pool.emulated,
        "emulation": msgspec.to_builtins(pool.emulation),
        "variant": pool.models.get(request.model, UNSERVED).variant,
        "status": "chosen" if why is None else "candidate" if scored else "rejected",
        "reason": why.reason.value if why else None,
        "words": _words(pool, request, decision, scored, why),
        "rule": verdict.rule,
        "predicted_s": predicted_s or None,
    }
    if scored:
        entry |= {"score": scored.score, "parts": scored.parts, "prefer": verdict.prefer, "cost": scored.cost}
    return entry


def _words(
    pool: PoolView, request: RequestFacts, decision: Decision, scored: Scored | None, why: Rejected | None
) -> str:
    """One clause for people."""
    if why is None:
        return "picked"
    if why.detail:
        return why.detail
    serving = pool.models.get(request.model, UNSERVED)
    left_s = request.deadline_s - decision.taken_at_s
    match why.reason:
        case Reason.POLICY:
            return request.eligible.verdicts.get(pool.name, NO_VERDICT).reason
        case Reason.NARROWED:
            kept = request.only.words() if request.only else ""
            return f"the request keeps itself to {kept}; this is {pool.accelerator} in {pool.region}"
        case Reason.TRIED:
            return "an attempt of this request has already failed here"
        case Reason.MODEL:
            return f"does not serve {request.model!r}"
        case Reason.VERSION:
            return f"serves version {serving.version!r}, not {request.version!r}"
        case Reason.NOT_READY:
            return serving.why or "no replica is ready to serve the model"
        case Reason.DRAINING:
            return "every replica is leaving"
        case Reason.SATURATED if serving.full:
            return serving.why
        case Reason.SATURATED:
            return f"{pool.inflight} requests in flight of at most {pool.capacity}"
        case Reason.TOO_MANY_ROWS:
            return f"{request.rows} rows, at most {serving.max_rows} in one batch"
        case Reason.DEADLINE_LOADED:
            idle = idle_s(serving, request.rows)
            return f"predicted {_ms(why.predicted_s)} as loaded now, {_ms(idle)} when idle, {_ms(left_s)} left"
        case Reason.DEADLINE_NEVER:
            return f"takes {_ms(idle_s(serving, request.rows))} even when idle, {_ms(left_s)} left"
        case Reason.LOWER_SCORE:
            best = next((s.score for s in decision.scores if s.pool == decision.pool), 0.0)
            own = scored.score if scored else 0.0
            return f"score {own:.3f}; {decision.pool!r} was picked with {best:.3f}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
