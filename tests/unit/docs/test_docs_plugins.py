"""docs/plugins.md: each example is run, and does what its words say."""

import random

import pytest
from docs_pages import ROOT, blocks

from router.core.decision import Reason, Scored
from router.core.eligibility import EligibilityRow
from router.core.fleet import PoolView, ServingView
from router.core.plugins import Candidate
from router.core.profile import RoutingProfile, default_profile
from router.core.request import RequestFacts

REQUEST = RequestFacts("r", "t", "m", "", 1, 0, 0.0, 1.0, 0.1, 0, EligibilityRow("v", {}))


@pytest.fixture(scope="module")
def made():
    """Everything that the page's examples define, by name."""
    found = {}
    for code in blocks(ROOT / "docs" / "plugins.md", "python"):
        exec(compile(code, "docs/plugins.md", "exec"), found)
    return found


def candidate(*, inflight=0, waiting=0):
    serving = ServingView("1", 8, ((1, 0.01),))
    pool = PoolView("p", "c", False, 1.0, 1, False, inflight, 1000, {"m": serving}, {"m": waiting})
    return Candidate(pool, serving, 0.01, 0.0)


def test_the_filter_keeps_or_gives_its_reason(made):
    """By requests in flight."""
    assert made["rested"](REQUEST, candidate(inflight=99), 0.0) is None
    assert made["rested"](REQUEST, candidate(inflight=100), 0.0) is Reason.SATURATED


def test_the_scorer_saturates_and_fits_a_profile(made):
    """1.0 up to 32 rows, then in proportion."""
    candidates = [candidate(waiting=rows) for rows in (0, 32, 64)]
    assert made["Calm"]().score(REQUEST, candidates, 0.0) == [1.0, 1.0, 0.5]
    default = default_profile()
    profile = RoutingProfile("with calm", default.filters, (*default.scorers, (made["Calm"](), 0.5)), made["soonest"])
    assert profile.weights["calm"] == 0.5


def test_the_picker_takes_the_soonest(made):
    """Whatever the scores say."""
    scores = [Scored("a", 9.0, 0.02, {}, 1.0), Scored("b", 1.0, 0.01, {}, 1.0)]
    assert made["soonest"](scores, random.Random(1)) == 1
