"""The fleet view: what each event changes in the next snapshot, and in no earlier one."""

import pytest

from router.core.facts import AcceleratorFacts, PoolFacts
from router.core.predict import service_s
from router.protocol.link import Load, ModelGrant
from router.state.fleet_view import FleetView
from router.state.inflight import Ledger

CURVE = [(1, 0.010), (8, 0.024)]


def facts(name="a", models=("m", "n")):
    return PoolFacts(name, AcceleratorFacts("x86-cpu"), "r", "cpu", False, {}, 1.0, models)


def grant(model="m", *, version="1", max_rows=8, items=10, curve=CURVE):
    return ModelGrant(model, version, max_rows, items, 1 << 20, curve)


def load(draining=False, **waiting):
    return Load(waiting, draining, 0)


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def view(ledger):
    return FleetView([facts("a"), facts("b")], ledger, queue_items=5)


def seen(view, now_s=0.0, pool="a"):
    return next(p for p in view.snapshot(now_s).pools if p.name == pool)


def test_configured_pools_are_seen_in_config_order_before_any_replica(view):
    """Known, not ready, no capacity; models are known by name."""
    fleet = view.snapshot(3.0)
    assert fleet.taken_at_s == 3.0
    assert [p.name for p in fleet.pools] == ["a", "b"]
    for pool in fleet.pools:
        assert (pool.ready_replicas, pool.capacity, pool.draining) == (0, 0, False)
        assert [pool.models[m].curve for m in ("m", "n")] == [(), ()]


def test_a_replica_that_is_up_brings_readiness_capacity_and_curves(view):
    """Granted items of all models and replicas, plus the router's own queue once."""
    view.replica_up("a", "r1", [grant("m", items=10), grant("n", items=7)], provider="CPUExecutionProvider")
    view.replica_up("a", "r2", [grant("m", items=10)], provider="CPUExecutionProvider")
    pool = seen(view)
    assert (pool.ready_replicas, pool.capacity) == (2, 10 + 7 + 10 + 5)
    assert (pool.models["m"].version, pool.models["m"].max_rows) == ("1", 8)
    assert service_s(pool.models["m"].curve, 8) == pytest.approx(0.024)
    assert view.providers("a") == ("CPUExecutionProvider",)
    assert seen(view, pool="b").ready_replicas == 0


def test_replicas_that_differ_are_seen_as_their_mean_and_their_smaller_limit(view):
    """One curve per pool and model; the version is the one that came up last."""
    view.replica_up("a", "r1", [grant(curve=[(1, 0.010)], max_rows=8)])
    view.replica_up("a", "r2", [grant(curve=[(1, 0.030)], max_rows=4, version="2")])
    serving = seen(view).models["m"]
    assert (serving.version, serving.max_rows) == ("2", 4)
    assert service_s(serving.curve, 1) == pytest.approx(0.020)


def test_models_that_are_not_configured_are_left_out(view):
    """Configuration says what a pool serves; it grants no capacity for more."""
    view.replica_up("a", "r1", [grant("m", items=10), grant("stray", items=90)])
    pool = seen(view)
    assert set(pool.models) == {"m", "n"}
    assert pool.capacity == 10 + 5


def test_a_replica_that_is_down_takes_all_it_had_with_it(view):
    """Readiness, capacity, its report. The version stays known, the curve does not."""
    view.replica_up("a", "r1", [grant()])
    view.load("a", "r1", load(m=9), 0.0)
    view.replica_down("a", "r1")
    pool = seen(view, 0.1)
    assert (pool.ready_replicas, pool.capacity, pool.waiting_rows, pool.draining) == (0, 0, {}, False)
    assert (pool.models["m"].version, pool.models["m"].curve) == ("1", ())


@pytest.mark.parametrize("told_by_report", [True, False])
def test_a_pool_drains_when_all_its_replicas_do(view, told_by_report):
    """One of two leaving halves it; both leaving drains it; a new one ends that."""

    def drain(replica):
        if told_by_report:
            view.load("a", replica, load(draining=True), 0.0)
        else:
            view.replica_draining("a", replica)

    view.replica_up("a", "r1", [grant()])
    view.replica_up("a", "r2", [grant()])
    drain("r1")
    assert (seen(view).ready_replicas, seen(view).draining, seen(view).capacity) == (1, False, 15)
    drain("r2")
    assert (seen(view).ready_replicas, seen(view).draining, seen(view).capacity) == (0, True, 0)
    view.replica_up("a", "r3", [grant()])
    assert (seen(view).ready_replicas, seen(view).draining) == (1, False)


def test_waiting_rows_are_the_larger_of_own_count_and_reports(view, ledger):
    """Own rows that have not arrived there yet count, and so do other routers' rows."""
    view.replica_up("a", "r1", [grant()])
    view.replica_up("a", "r2", [grant()])
    ledger.lease("a", "m", 6, 1, 0.0)
    view.load("a", "r1", load(m=2, n=3), 0.0)
    view.load("a", "r2", load(m=1, n=0), 0.0)
    assert seen(view).waiting_rows == {"m": 6, "n": 3}
    view.load("a", "r1", load(m=9), 0.1)
    pool = seen(view, 0.1)
    assert pool.waiting_rows == {"m": 10}
    assert pool.inflight == 1


def test_a_report_too_old_is_no_news(view, ledger):
    """It is ignored after its age, each replica's on its own; own leases stay counted."""
    view.replica_up("a", "r1", [grant()])
    view.replica_up("a", "r2", [grant()])
    ledger.lease("a", "m", 2, 1, 0.0)
    view.load("a", "r1", load(m=5), 0.0)
    view.load("a", "r2", load(m=4), 0.5)
    assert seen(view, 1.0).waiting_rows == {"m": 9}
    assert seen(view, 1.2).waiting_rows == {"m": 4}
    assert seen(view, 1.6).waiting_rows == {"m": 2}


def test_a_snapshot_does_not_change_after_it_was_taken(view, ledger):
    """Whatever happens next."""
    view.replica_up("a", "r1", [grant()])
    before = seen(view)
    waiting, models, curve = dict(before.waiting_rows), dict(before.models), before.models["m"].curve
    ledger.lease("a", "m", 6, 1, 0.0)
    view.load("a", "r1", load(m=9), 0.0)
    view.observe("a", "m", 8, 0.240, 1.0, 0.1)
    view.replica_down("a", "r1")
    assert (before.waiting_rows, before.models, before.inflight, before.ready_replicas) == (waiting, models, 0, 1)
    assert before.models["m"].curve == curve


def test_observed_times_correct_the_curve_until_they_are_forgotten(view):
    """Twice as slow shows in the next snapshot and fades in silence."""
    view.replica_up("a", "r1", [grant()])
    for tick in range(100):
        view.observe("a", "m", 8, 0.048, 1.0, tick * 0.01)
    assert service_s(seen(view, 1.0).models["m"].curve, 1) == pytest.approx(0.020, rel=0.05)
    assert service_s(seen(view, 21.0).models["m"].curve, 1) == pytest.approx(0.010, rel=0.1)


def test_what_was_learned_outlives_another_replica_leaving(view):
    """One replica fewer does not make the pool fast again."""
    view.replica_up("a", "r1", [grant()])
    view.replica_up("a", "r2", [grant()])
    for tick in range(100):
        view.observe("a", "m", 8, 0.048, 1.0, tick * 0.01)
    view.replica_down("a", "r1")
    assert service_s(seen(view, 1.0).models["m"].curve, 1) == pytest.approx(0.020, rel=0.05)


def test_able_looks_for_a_replica_that_was_not_tried(view):
    """Ready, with the model, and another one."""
    assert not view.able("a", "m")
    view.replica_up("a", "r1", [grant("m")])
    view.replica_up("a", "r2", [grant("n")])
    assert view.able("a", "m")
    assert not view.able("a", "m", ("r1",))
    view.replica_draining("a", "r1")
    assert not view.able("a", "m")


def test_late_news_of_a_replica_that_is_gone_changes_nothing(view):
    """Its report and its drain may arrive after its end."""
    view.replica_down("a", "ghost")
    view.replica_draining("a", "ghost")
    view.load("a", "ghost", load(m=9), 0.0)
    view.observe("a", "m", 1, 1.0, 1.0, 0.0)
    assert seen(view).waiting_rows == {}


def test_a_pool_that_is_not_configured_is_an_error(view):
    """Never a silent new pool."""
    with pytest.raises(KeyError):
        view.replica_up("stray", "r1", [grant()])


def test_the_variant_that_a_pool_serves_is_known_and_stays_known(view):
    """Through corrections of the curve, and after its last replica has gone."""
    view.replica_up("a", "r1", [ModelGrant("m", "1", 8, 10, 1 << 20, CURVE, "fp16")])
    assert seen(view).models["m"].variant == "fp16"
    view.observe("a", "m", 1, 1.0, 1.0, 0.0)
    assert (seen(view).models["m"].curve[0][1] > 0.02, seen(view).models["m"].variant) == (True, "fp16")
    view.replica_down("a", "r1")
    assert (seen(view).models["m"].curve, seen(view).models["m"].variant) == ((), "fp16")


def closed(reason="backend_lost", model="m", grants=()):
    return Load({}, False, 0, {model: (reason, f"upstream: {reason}")}, list(grants))


def test_a_model_that_a_replica_has_closed_is_not_ready_and_says_why(view):
    """The other model and the other pool stay as they were; opened again, it is as before."""
    view.replica_up("a", "r1", [grant("m"), grant("n")])
    before = seen(view).models["m"]
    view.load("a", "r1", closed(), 1.0)
    serving = seen(view, 1.0).models["m"]
    assert (serving.curve, serving.why, serving.full) == ((), "upstream: backend_lost", False)
    assert seen(view, 1.0).models["n"].curve
    assert not view.able("a", "m")
    assert view.able("a", "n")
    assert view.replicas("a")[0].closed == {"m": "upstream: backend_lost"}
    view.load("a", "r1", load(), 2.0)
    assert seen(view, 2.0).models["m"] == before


def test_one_that_is_full_says_that_waiting_helps(view):
    """A refusal for want of room is no absence."""
    view.replica_up("a", "r1", [grant("m")])
    view.load("a", "r1", closed("queue_full"), 1.0)
    assert seen(view, 1.0).models["m"].full


def test_a_model_is_ready_while_one_replica_takes_it(view):
    """The pool has two."""
    view.replica_up("a", "r1", [grant("m")])
    view.replica_up("a", "r2", [grant("m")])
    view.load("a", "r1", closed(), 1.0)
    assert seen(view, 1.0).models["m"].curve
    assert view.able("a", "m")
    assert not view.able("a", "m", ("r2",))


def test_a_closed_model_keeps_what_was_learned_of_it(view):
    """A moment of 429 does not make it as fast as it was at its start."""
    view.replica_up("a", "r1", [grant("m")])
    for _ in range(50):
        view.observe("a", "m", 1, 0.040, 1.0, 1.0)
    learned = seen(view, 1.0).models["m"].curve
    view.load("a", "r1", closed("queue_full"), 1.0)
    view.observe("a", "m", 1, 0.040, 1.0, 1.0)
    assert seen(view, 1.0).models["m"].curve == ()
    view.load("a", "r1", load(), 1.0)
    assert service_s(seen(view, 1.0).models["m"].curve, 1) == pytest.approx(service_s(learned, 1), rel=0.1)


def test_a_grant_that_comes_later_replaces_the_curve(view):
    """A model is measured after its replica came, or has become slower."""
    view.replica_up("a", "r1", [grant("m", curve=[]), grant("n")])
    assert not seen(view).models["m"].curve
    view.load("a", "r1", Load({}, False, 0, {}, [grant("m", max_rows=4, curve=[(1, 0.5), (4, 1.0)])]), 1.0)
    serving = seen(view, 1.0).models["m"]
    assert (serving.max_rows, service_s(serving.curve, 4)) == (4, 1.0)
    view.load("a", "r1", Load({}, False, 0, {}, [grant("other")]), 1.0)
    assert set(seen(view, 1.0).models) == {"m", "n"}
