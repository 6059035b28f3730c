"""Hypothesis strategies: fleets, requests and profiles as the core may meet them, the odd ones included."""

from __future__ import annotations

from hypothesis import strategies as st

from router.core.eligibility import EligibilityRow, Verdict
from router.core.fleet import FleetSnapshot, PoolView, ServingView
from router.core.pickers.max_score import max_score
from router.core.pickers.power_of_two import power_of_two
from router.core.profile import FILTERS, RoutingProfile
from router.core.request import RequestFacts
from router.core.scorers.cost import Cost
from router.core.scorers.headroom import Headroom
from router.core.scorers.latency import Latency

MODELS = ("m", "n")
NAMES = tuple(f"p{at}" for at in range(8))

seconds = st.floats(1e-5, 2.0)


@st.composite
def curves(draw):
    rows = sorted(draw(st.sets(st.integers(1, 64), max_size=5)))
    times = sorted(draw(st.lists(seconds, min_size=len(rows), max_size=len(rows))))
    return tuple(zip(rows, times, strict=True))


servings = st.builds(ServingView, st.sampled_from(["", "1", "2"]), st.integers(0, 64), curves())


def pools(name):
    return st.builds(
        PoolView,
        name=st.just(name),
        accelerator=st.sampled_from(["x", "y"]),
        emulated=st.booleans(),
        cost=st.floats(0.01, 100.0),
        ready_replicas=st.integers(0, 3),
        draining=st.sampled_from([False, False, False, True]),
        inflight=st.integers(0, 20),
        capacity=st.integers(0, 30),
        models=st.dictionaries(st.sampled_from(MODELS), servings),
        waiting_rows=st.dictionaries(st.sampled_from((*MODELS, "elsewhere")), st.integers(0, 200)),
    )


@st.composite
def fleets(draw):
    count = draw(st.integers(0, len(NAMES)))
    return FleetSnapshot(draw(st.floats(0.0, 1e6)), tuple(draw(pools(name)) for name in NAMES[:count]))


verdicts = st.builds(Verdict, st.booleans(), st.just("rule"), st.just("because"), st.sampled_from([0.0, 0.0, 2.0]))


@st.composite
def requests(draw, now_s):
    arrived_s = now_s - draw(st.floats(0.0, 1.0))
    return RequestFacts(
        request_id="r",
        tenant="t",
        model=draw(st.sampled_from(MODELS)),
        version=draw(st.sampled_from(["", "", "1"])),
        rows=draw(st.integers(1, 40)),
        nbytes=1,
        arrived_s=arrived_s,
        deadline_s=arrived_s + draw(st.floats(0.0, 10.0)),
        target_s=draw(st.floats(0.0, 1.0)),
        priority=0,
        eligible=EligibilityRow("v", draw(st.dictionaries(st.sampled_from(NAMES), verdicts))),
        tried=tuple(draw(st.sets(st.sampled_from(NAMES), max_size=2))),
    )


@st.composite
def cases(draw):
    """A fleet and a request that meets it."""
    fleet = draw(fleets())
    return fleet, draw(requests(fleet.taken_at_s))


@st.composite
def profiles(draw):
    weights = st.floats(0.1, 10.0)
    scorers = [Latency(draw(st.floats(0.1, 1.0))), Headroom(draw(st.floats(0.1, 1.0))), Cost()]
    chosen = draw(st.lists(st.sampled_from(scorers), min_size=1, unique_by=lambda s: s.name))
    picker = draw(st.sampled_from([max_score, power_of_two]))
    return RoutingProfile("drawn", FILTERS, tuple((s, draw(weights)) for s in chosen), picker)
