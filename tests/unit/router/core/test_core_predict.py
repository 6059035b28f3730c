"""Prediction: service times from curves, and what waits ahead of a request."""

from math import inf

import pytest
from core_builders import CURVE, pool

from models.latency import interpolate
from router.core.fleet import ServingView
from router.core.plugins import UNSERVED
from router.core.predict import completion_s, dense, idle_s, service_s


def completion(view, rows=1):
    return completion_s(view, "m", view.models["m"], rows)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 6, 8, 12])
def test_service_time_is_that_of_the_latency_profile(rows):
    """The fast look-up and models.latency agree between, on and beyond the points."""
    assert service_s(CURVE, rows) == pytest.approx(interpolate(list(CURVE), rows))


def test_a_dense_curve_says_the_same_as_the_points_it_came_from():
    """Filling in the points changes no service time within the batch limit."""
    filled = dense(CURVE, 8)
    assert len(filled) == 8
    assert [service_s(filled, n) for n in range(1, 9)] == [service_s(CURVE, n) for n in range(1, 9)]


def test_a_curve_for_huge_batches_is_left_sparse():
    """A table of thousands of points is not worth its memory."""
    assert dense(CURVE, 4096) is CURVE


def test_a_pool_without_a_curve_or_a_replica_never_answers():
    """Unmeasured is not fast: fail closed."""
    assert service_s((), 1) == inf
    assert completion_s(pool(), "other", UNSERVED, 1) == inf
    assert completion(pool(ready_replicas=0)) == inf


def test_an_idle_pool_takes_the_time_of_a_batch_of_its_own():
    """Nothing waiting: completion is the idle completion."""
    view = pool()
    assert completion(view, 3) == idle_s(view.models["m"], 3) == service_s(CURVE, 3)


def test_joining_a_batch_costs_the_curve_at_the_joined_size():
    """3 rows wait, 1 comes: a batch of 4, not a batch of 3 and a batch of 1."""
    assert completion(pool(waiting={"m": 3})) == service_s(CURVE, 4)


def test_full_batches_ahead_are_waited_for():
    """17 rows ahead at 8 a batch: two full ones, then the batch of 2 it joins."""
    assert completion(pool(waiting={"m": 17})) == pytest.approx(2 * service_s(CURVE, 8) + service_s(CURVE, 2))


def test_a_request_that_does_not_fit_the_batch_waits_for_it():
    """7 rows wait and 3 come where 8 fit: a batch of 7, then one of 3."""
    assert completion(pool(waiting={"m": 7}), 3) == pytest.approx(service_s(CURVE, 7) + service_s(CURVE, 3))


def test_what_waits_is_shared_by_the_ready_replicas():
    """16 rows over two replicas are 8 each; a lone row leaves the other replica idle."""
    assert completion(pool(waiting={"m": 16}, ready_replicas=2)) == pytest.approx(
        service_s(CURVE, 8) + service_s(CURVE, 1)
    )
    assert completion(pool(waiting={"m": 1}, ready_replicas=2)) == service_s(CURVE, 1)


def test_other_models_on_the_pool_are_waited_for():
    """9 rows of another model are a full batch of it and one more."""
    other = ServingView("1", 8, ((1, 0.1), (8, 0.2)))
    models = {"m": ServingView("1", 8, CURVE), "o": other, "unmeasured": ServingView("", 0, ())}
    view = pool(models=models, waiting={"o": 9, "unmeasured": 5, "unknown": 5})
    assert completion(view) == pytest.approx(0.2 + 0.1 + service_s(CURVE, 1))
