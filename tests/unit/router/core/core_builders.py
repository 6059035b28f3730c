"""Small builders for the tests of the core: everything has a default, a test names what it is about."""

from __future__ import annotations

import random

from router.core.decide import decide
from router.core.decision import Decision, Reason
from router.core.eligibility import EligibilityRow, Verdict
from router.core.fleet import FleetSnapshot, PoolView, ServingView
from router.core.profile import RoutingProfile, default_profile
from router.core.request import RequestFacts

CURVE = ((1, 0.010), (4, 0.016), (8, 0.024))
"""10 ms alone, 2 ms a row more up to 4 and beyond."""


def pool(name="a", *, curve=CURVE, max_rows=8, version="1", waiting=None, **fields) -> PoolView:
    facts = {
        "name": name,
        "accelerator": f"class-{name}",
        "emulated": False,
        "cost": 1.0,
        "ready_replicas": 1,
        "draining": False,
        "inflight": 0,
        "capacity": 100,
        "models": {"m": ServingView(version, max_rows, curve)},
        "waiting_rows": waiting or {},
    }
    return PoolView(**(facts | fields))


def verdicts(*names: str, denied: tuple[str, ...] = (), prefer=None) -> EligibilityRow:
    prefer = prefer or {}
    row = {name: Verdict(True, "may", "", prefer.get(name, 0.0)) for name in names}
    row |= {name: Verdict(False, "must-not", f"{name} is not for you") for name in denied}
    return EligibilityRow("v1", row)


def request(*eligible: str, **fields) -> RequestFacts:
    facts = {
        "request_id": "r1",
        "tenant": "t",
        "model": "m",
        "version": "",
        "rows": 1,
        "nbytes": 100,
        "arrived_s": 0.0,
        "deadline_s": 1.0,
        "target_s": 0.100,
        "priority": 0,
        "eligible": verdicts(*(eligible or ("a",))),
    }
    return RequestFacts(**(facts | fields))


def choose(asked: RequestFacts, *pools: PoolView, profile: RoutingProfile | None = None, now_s=0.0) -> Decision:
    return decide(asked, FleetSnapshot(now_s, pools), profile or default_profile(), random.Random(7))


def reasons(decision: Decision) -> dict[str, Reason]:
    return {r.pool: r.reason for r in decision.rejected}
