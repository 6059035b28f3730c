"""Microseconds per decision, best case first: python -m benchmarks.decision

Each number is the least of many short rounds, so that other work on the machine adds little; nothing is warmed by hand.
"""

from __future__ import annotations

import platform
import random
import timeit
from collections.abc import Callable

import msgspec

from router.core.decide import _candidates, _score, decide
from router.core.eligibility import EligibilityRow, Verdict
from router.core.facts import AcceleratorFacts, PoolFacts
from router.core.pickers.power_of_two import power_of_two
from router.core.profile import default_profile
from router.core.request import RequestFacts
from router.protocol.link import Answer, Load, ModelGrant
from router.service.cycle import Cycle
from router.state.fleet_view import FleetView
from router.state.inflight import Ledger

CURVE = [(1, 0.00035), (2, 0.0004), (4, 0.00045), (8, 0.0005), (16, 0.0007), (32, 0.00106)]
"""A 256-wide MLP on a CPU core."""


def best_us(step: Callable[[], object], rounds: int = 300, calls: int = 100) -> float:
    """Least mean time of one call over the rounds, in microseconds."""
    return min(timeit.repeat(step, number=calls, repeat=rounds)) / calls * 1e6


def house(pools: int) -> tuple[FleetView, Ledger, RequestFacts]:
    """Ready pools of rising cost, each with work waiting, and a request that may use them all."""
    ledger = Ledger()
    names = [f"pool-{at}" for at in range(pools)]
    facts = [
        PoolFacts(name, AcceleratorFacts("x86-cpu"), "edge", "cpu", False, {}, 1.0 + at, ("mlp", "minilm"))
        for at, name in enumerate(names)
    ]
    view = FleetView(facts, ledger, queue_items=64)
    for name in names:
        view.replica_up(name, "r1", [ModelGrant(model, "1", 32, 64, 1 << 24, CURVE) for model in ("mlp", "minilm")])
        view.load(name, "r1", Load({"mlp": 7}, False, 0), 0.0)
        for _ in range(3):
            ledger.lease(name, "mlp", 1, 1024, 0.0)
    row = EligibilityRow("v1", {name: Verdict(True, "fleet", "") for name in names})
    return view, ledger, RequestFacts("r", "t", "mlp", "", 1, 1024, 0.0, 1.0, 0.05, 0, row)


def measure(pools: int) -> dict[str, float]:
    """Each step of a decision over `pools` pools, and the whole cycle around it."""
    view, ledger, request = house(pools)
    profile, rng = default_profile(), random.Random(1)
    spread = msgspec.structs.replace(profile, picker=power_of_two)
    cycle = Cycle(view, ledger, profile, rng)
    fleet = view.snapshot(0.0)
    candidates = _candidates(request, fleet, profile, [])
    scores = _score(request, candidates, profile, 0.0)
    denied = msgspec.structs.replace(request, eligible=EligibilityRow("v1", {}))
    answer = Answer(1, "", "", True, 0, 0, 500, 8, [])
    decision = cycle.decide(request, 0.0)
    assert decision.pool
    assert len(decision.scores) == pools
    return {
        "snapshot": best_us(lambda: view.snapshot(0.0)),
        "filter and predict": best_us(lambda: _candidates(request, fleet, profile, [])),
        "score": best_us(lambda: _score(request, candidates, profile, 0.0)),
        "pick, max_score": best_us(lambda: profile.picker(scores, rng)),
        "pick, power_of_two": best_us(lambda: spread.picker(scores, rng)),
        "decide, max_score": best_us(lambda: decide(request, fleet, profile, rng)),
        "decide, all denied": best_us(lambda: decide(denied, fleet, profile, rng)),
        "snapshot and decide": best_us(lambda: cycle.decide(request, 0.0)),
        "dispatch and answer": best_us(lambda: cycle.on_answer(cycle.dispatch(decision, request, 0.0), answer, 0.0)),
        "explain": best_us(lambda: cycle.explain(request, 0.0), calls=10),
    }


def main() -> None:
    """Print one table."""
    sizes = (3, 8, 30)
    columns = [measure(size) for size in sizes]
    print(f"us per call, CPython {platform.python_version()}, {platform.machine()}\n")
    print(f"| step | {' | '.join(f'{size} pools' for size in sizes)} |")
    print(f"|---|{'---:|' * len(sizes)}")
    for step in columns[0]:
        print(f"| {step} | {' | '.join(f'{column[step]:.2f}' for column in columns)} |")


if __name__ == "__main__":
    main()
