"""What an upstream's statuses mean for the item and for the upstream; none of its own words is repeated."""

import json

import pytest

from deployments.upstream.client import Reply, Unreachable
from deployments.upstream.outcome import Verdict, of_status, out_of_time, unreachable


def told(status, reason="", **headers):
    said = {"error": "GPU 3 on host 10.0.0.7 is on fire"} | ({"reason": reason} if reason else {})
    return of_status(Reply(status, {k.replace("_", "-"): v for k, v in headers.items()}, json.dumps(said).encode()))


@pytest.mark.parametrize(
    ("status", "word", "reason", "dispatched", "verdict"),
    [
        (400, "", "malformed", True, Verdict.HEARD),
        (422, "shape_mismatch", "malformed", True, Verdict.HEARD),
        (413, "", "too_large", True, Verdict.HEARD),
        (401, "", "backend_lost", False, Verdict.FAILED),
        (403, "policy_denied", "backend_lost", False, Verdict.HEARD),
        (404, "", "backend_lost", False, Verdict.FAILED),
        (302, "", "backend_failed", True, Verdict.FAILED),
        (429, "saturated", "queue_full", False, Verdict.REFUSED),
        (503, "", "queue_full", False, Verdict.REFUSED),
        (503, "saturated", "queue_full", False, Verdict.REFUSED),
        (429, "quota_exceeded", "queue_full", False, Verdict.REFUSED),
        (503, "no_ready_pool", "backend_lost", False, Verdict.FAILED),
        (503, "draining", "backend_lost", False, Verdict.FAILED),
        (500, "", "backend_failed", True, Verdict.FAILED),
        (502, "backend_failed", "backend_failed", True, Verdict.FAILED),
        (504, "deadline_unmeetable", "queue_full", False, Verdict.HEARD),
        (431, "headers_too_large", "backend_lost", False, Verdict.HEARD),
        (508, "too_many_hops", "backend_lost", False, Verdict.HEARD),
    ],
)
def test_each_status_has_its_meaning(status, word, reason, dispatched, verdict):
    """Overload is no failure; what a client did wrong is none either."""
    outcome = told(status, word)
    assert (outcome.result.reason, outcome.result.dispatched, outcome.verdict) == (reason, dispatched, verdict)
    words = outcome.result.detail + outcome.why
    assert str(status) in words
    assert "10.0.0.7" not in words


def test_a_deadline_that_passed_there_is_no_failure_of_the_upstream():
    """Or whoever asks with short deadlines would close it for all."""
    outcome = told(504, "backend_timeout")
    assert (outcome.result.reason, outcome.verdict) == ("expired", Verdict.LEFT)


def test_the_time_to_wait_is_read_where_it_is_a_number():
    """A date is passed over."""
    assert told(429, retry_after="3").retry_after_s == 3.0
    assert told(429, retry_after="Fri, 31 Dec 1999 23:59:59 GMT").retry_after_s is None
    assert told(429).retry_after_s is None


def test_a_body_that_is_no_document_says_nothing():
    """Whatever is in it."""
    for body in (b"", b"<html>", b"[1]", b'{"reason": 3}', b'{"reason": "Host 10.0.0.7"}'):
        outcome = of_status(Reply(500, {}, body))
        assert outcome.why == "it answers 500"


def test_a_connection_refused_has_run_nothing_and_one_lost_may_have():
    """The second may be tried again all the same: inference has no side effects."""
    assert not unreachable(Unreachable("connection refused", sent=False)).result.dispatched
    assert unreachable(Unreachable("the connection was lost", sent=True)).result.dispatched
    assert out_of_time().verdict is Verdict.LEFT
