"""What holds for every decision over any fleet, request and profile."""

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from routing_strategies import cases, curves, profiles

from models.latency import interpolate
from router.core.decide import decide
from router.core.decision import Reason
from router.core.errors import RouterError
from router.core.explain import explain
from router.core.fleet import FleetSnapshot
from router.core.outcome import no_pool_error
from router.core.predict import dense, service_s
from router.core.profile import default_profile
from router.protocol.problem import PROBLEMS

seeds = st.integers(0, 2**32)


@given(cases(), profiles(), seeds)
def test_the_chosen_pool_may_and_can(case, profile, seed):
    """Eligible, not tried, ready, serving the model and version, with room, in time by its prediction."""
    fleet, request = case
    decision = decide(request, fleet, profile, random.Random(seed))
    for scored in decision.scores:
        pool = next(p for p in fleet.pools if p.name == scored.pool)
        assert request.eligible.verdicts[pool.name].allowed
        assert pool.name not in request.tried
        assert pool.ready_replicas > 0
        assert not pool.draining
        serving = pool.models[request.model]
        assert serving.curve
        assert request.version in ("", serving.version) or not serving.version
        assert request.rows <= serving.max_rows
        assert pool.inflight < pool.capacity
        assert 0.0 < scored.predicted_s <= request.deadline_s - fleet.taken_at_s
    assert decision.pool in {s.pool for s in decision.scores} or (decision.pool == "" and not decision.scores)


@given(cases(), profiles(), seeds)
def test_every_other_pool_has_exactly_one_reason(case, profile, seed):
    """The reasons and the choice together name each pool once; LOWER_SCORE means scored, and only that."""
    fleet, request = case
    decision = decide(request, fleet, profile, random.Random(seed))
    named = [r.pool for r in decision.rejected] + [decision.pool] * bool(decision.pool)
    assert sorted(named) == sorted(p.name for p in fleet.pools)
    lost = {r.pool for r in decision.rejected if r.reason is Reason.LOWER_SCORE}
    assert lost == {s.pool for s in decision.scores} - {decision.pool}
    for r in decision.rejected:
        verdict = request.eligible.verdicts.get(r.pool)
        assert (r.reason is Reason.POLICY) == (verdict is None or not verdict.allowed)


@given(cases(), profiles(), seeds)
def test_scores_are_bounded_and_add_up(case, profile, seed):
    """Each part in [0, 1]; the score is their weighted sum plus preference."""
    fleet, request = case
    for scored in decide(request, fleet, profile, random.Random(seed)).scores:
        assert all(0.0 <= part <= 1.0 for part in scored.parts.values())
        weighted = sum(weight * scored.parts[name] for name, weight in profile.weights.items())
        assert abs(scored.score - weighted - request.eligible.verdicts[scored.pool].prefer) < 1e-9


@given(cases(), profiles(), seeds)
def test_the_same_seed_decides_the_same(case, profile, seed):
    """A decision can be replayed, and deciding changes neither request nor fleet."""
    fleet, request = case
    before = msgspec.json.encode((fleet, request))
    first = decide(request, fleet, profile, random.Random(seed))
    assert first == decide(request, fleet, profile, random.Random(seed))
    assert msgspec.json.encode((fleet, request)) == before


@given(cases())
def test_by_default_a_pool_well_inside_the_target_never_loses_to_one_that_misses_it(case):
    """8 x (1 - 0.7) > 1 + 1, whatever price and room; policy's preference aside."""
    fleet, request = case
    for name, verdict in request.eligible.verdicts.items():
        request.eligible.verdicts[name] = msgspec.structs.replace(verdict, prefer=0.0)
    decision = decide(request, fleet, default_profile(), random.Random(0))
    left_s = request.arrived_s + request.target_s - fleet.taken_at_s
    if any(s.predicted_s <= 0.7 * left_s for s in decision.scores):
        assert decision.predicted_s <= left_s


@given(cases(), profiles(), seeds)
def test_ineligible_pools_change_nothing_for_the_others(case, profile, seed):
    """Choice, scores, error and its words are the same without them."""
    fleet, request = case
    allowed = [p for p in fleet.pools if (v := request.eligible.verdicts.get(p.name)) is not None and v.allowed]
    whole = decide(request, fleet, profile, random.Random(seed))
    part = decide(request, FleetSnapshot(fleet.taken_at_s, tuple(allowed)), profile, random.Random(seed))
    assert (whole.pool, whole.scores) == (part.pool, part.scores)
    if not whole.pool and allowed:
        a, b = no_pool_error(whole, request), no_pool_error(part, request)
        assert (a.reason, a.detail, a.retry_after_s) == (b.reason, b.detail, b.retry_after_s)


@given(cases(), seeds)
def test_no_pool_is_an_error_with_a_status_and_everything_can_be_told(case, seed):
    """A known reason, a wait that is not negative, and an explanation in plain values."""
    fleet, request = case
    profile = default_profile()
    decision = decide(request, fleet, profile, random.Random(seed))
    if not decision.pool:
        error = no_pool_error(decision, request)
        assert isinstance(error, RouterError)
        assert error.reason in PROBLEMS
        assert (error.retry_after_s or 0.0) >= 0.0
    story = explain(request, decision, fleet, profile)
    assert msgspec.json.decode(msgspec.json.encode(story)) == story


@given(curves(), st.integers(1, 64), st.integers(1, 64))
def test_service_time_is_that_of_the_latency_profile(curve, rows, max_rows):
    """The fast look-up is the plain interpolation, dense or not."""
    if curve:
        expected = interpolate(list(curve), rows)
        assert abs(service_s(curve, rows) - expected) <= 1e-9 * expected
        inside = min(rows, max_rows)
        assert service_s(dense(curve, max_rows), inside) == service_s(curve, inside)
