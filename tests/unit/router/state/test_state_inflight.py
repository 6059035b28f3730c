"""The ledger: counts follow leases, each released once."""

import pytest

from router.state.inflight import LeaseError, Ledger


def test_counts_follow_leases():
    """By pool and by model; what is given back is gone."""
    ledger = Ledger()
    a = ledger.lease("p", "m", 3, 100, 0.0)
    ledger.lease("p", "m", 2, 10, 0.0)
    ledger.lease("p", "n", 1, 1, 0.0)
    held = ledger.held("p")
    assert (held.requests, held.nbytes, held.rows) == (3, 111, {"m": 5, "n": 1})
    ledger.release(a, "success")
    assert (held.requests, held.nbytes, held.rows) == (2, 11, {"m": 2, "n": 1})
    assert ledger.held("other").requests == 0


def test_a_model_without_leases_leaves_no_trace():
    """Rows by model stay as small as what is open."""
    ledger = Ledger()
    ledger.release(ledger.lease("p", "m", 3, 100, 0.0), "dropped")
    assert ledger.held("p").rows == {}


@pytest.mark.parametrize("first", ["success", "dropped", "ignored"])
def test_a_second_release_is_refused_and_counts_nothing(first):
    """Releasing twice would make a full pool look empty."""
    ledger = Ledger()
    ledger.lease("p", "m", 1, 1, 0.0)
    lease = ledger.lease("p", "m", 1, 1, 0.0)
    ledger.release(lease, first)
    with pytest.raises(LeaseError, match=first):
        ledger.release(lease, "success")
    assert lease.outcome == first
    assert ledger.held("p").requests == 1
