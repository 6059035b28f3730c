"""The estimator: follows what batches take, forgets in seconds, stays in bounds."""

import pytest

from router.core.predict import service_s
from router.state.estimator import Estimator

CURVE = ((1, 0.010), (8, 0.024))


def test_without_reports_it_is_the_granted_curve():
    """Nothing learned, nothing changed."""
    estimator = Estimator(CURVE, 8)
    assert [service_s(estimator.curve, n) for n in (1, 4, 8)] == [service_s(CURVE, n) for n in (1, 4, 8)]


def test_it_follows_a_pool_that_has_become_slow_and_returns():
    """Three times as slow at one size is three times as slow at all; then as before again, within seconds."""
    estimator = Estimator(CURVE, 8)
    for tick in range(200):
        estimator.observe(8, 3 * 0.024, 1.0, tick * 0.02)
    assert service_s(estimator.curve, 1) == pytest.approx(0.030, rel=0.05)
    for tick in range(200, 700):
        estimator.observe(1, 0.010, 1.0, tick * 0.02)
    assert service_s(estimator.curve, 8) == pytest.approx(0.024, rel=0.05)


def test_half_of_a_change_is_learned_within_two_seconds():
    """A class that slows five times is left that fast."""
    estimator = Estimator(CURVE, 8)
    for tick in range(500):
        estimator.observe(8, 0.024, 1.0, tick * 0.02)
    for tick in range(500, 600):
        estimator.observe(8, 5 * 0.024, 1.0, tick * 0.02)
    assert estimator.ratio > 3.0


def test_silence_brings_back_the_granted_curve():
    """A slow pool that nobody asks any more is worth another try after some seconds."""
    estimator = Estimator(CURVE, 8)
    for tick in range(100):
        estimator.observe(8, 10 * 0.024, 1.0, tick * 0.01)
    assert estimator.ratio > 9.0
    assert estimator.refresh(21.0)
    assert estimator.ratio == pytest.approx(1.0, rel=0.1)


def test_a_batch_told_of_by_each_of_its_requests_counts_once():
    """Eight reports of an eighth each are one report."""
    once, shared = Estimator(CURVE, 8), Estimator(CURVE, 8)
    once.observe(8, 0.048, 1.0, 1.0)
    for _ in range(8):
        shared.observe(8, 0.048, 1 / 8, 1.0)
    assert shared.ratio == pytest.approx(once.ratio, rel=0.02)


@pytest.mark.parametrize(("run_s", "low", "high"), [(1e9, 1.0, 20.0), (1e-12, 0.05, 1.0)])
def test_no_report_moves_it_out_of_bounds(run_s, low, high):
    """An absurd time is an absurd report."""
    estimator = Estimator(CURVE, 8)
    for tick in range(50):
        estimator.observe(1, run_s, 1.0, tick * 0.1)
    assert low <= estimator.ratio <= high


def test_what_is_no_measurement_is_ignored():
    """No rows, no time, no curve."""
    assert not Estimator(CURVE, 8).observe(0, 1.0, 1.0, 0.0)
    assert not Estimator(CURVE, 8).observe(1, 0.0, 1.0, 0.0)
    assert not Estimator((), 8).observe(1, 1.0, 1.0, 0.0)


def test_the_curve_is_the_same_object_until_it_changes():
    """Snapshots may share it; a change of less than 2 % is none."""
    estimator = Estimator(CURVE, 8)
    before = estimator.curve
    assert not estimator.observe(8, 0.024 * 1.01, 1.0, 1.0)
    assert estimator.curve is before
    assert estimator.observe(8, 0.048, 1.0, 1.1)
    assert estimator.curve is not before


def test_a_clock_that_steps_back_does_no_harm():
    """Time standing still forgets nothing."""
    estimator = Estimator(CURVE, 8)
    estimator.observe(8, 0.048, 1.0, 10.0)
    ratio = estimator.ratio
    estimator.refresh(5.0)
    assert estimator.ratio == ratio
