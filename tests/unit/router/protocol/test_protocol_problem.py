"""The table from reason to status, and what is built from it."""

from __future__ import annotations

import math

import grpc
import orjson
import pytest

from router.protocol.problem import PROBLEMS, client_reason, problem, problem_body, retry_after


def test_every_reason_has_its_statuses():
    """Reasons are part of the interface: a changed status must change this list too."""
    assert {reason: (row.status, row.grpc) for reason, row in PROBLEMS.items()} == {
        "malformed": (400, "INVALID_ARGUMENT"),
        "unauthenticated": (401, "UNAUTHENTICATED"),
        "policy_denied": (403, "PERMISSION_DENIED"),
        "model_not_found": (404, "NOT_FOUND"),
        "not_found": (404, "NOT_FOUND"),
        "method_not_allowed": (405, "UNIMPLEMENTED"),
        "request_timeout": (408, "DEADLINE_EXCEEDED"),
        "too_large": (413, "RESOURCE_EXHAUSTED"),
        "uri_too_long": (414, "INVALID_ARGUMENT"),
        "unsupported_media_type": (415, "INVALID_ARGUMENT"),
        "shape_mismatch": (422, "INVALID_ARGUMENT"),
        "headers_too_large": (431, "RESOURCE_EXHAUSTED"),
        "saturated": (429, "RESOURCE_EXHAUSTED"),
        "quota_exceeded": (429, "RESOURCE_EXHAUSTED"),
        "too_many_connections": (503, "UNAVAILABLE"),
        "no_ready_pool": (503, "UNAVAILABLE"),
        "draining": (503, "UNAVAILABLE"),
        "deadline_unmeetable": (504, "DEADLINE_EXCEEDED"),
        "backend_failed": (502, "INTERNAL"),
        "wrong_accelerator": (502, "INTERNAL"),
        "too_many_hops": (508, "FAILED_PRECONDITION"),
        "backend_lost": (502, "UNAVAILABLE"),
        "backend_timeout": (504, "DEADLINE_EXCEEDED"),
        "internal": (500, "INTERNAL"),
        "client_gone": (499, "CANCELLED"),
    }


def test_waiting_never_helps_where_the_client_must_change_something():
    """A client that may simply wait is told so; one that must change its request is not."""
    assert not any(row.waiting_helps for row in PROBLEMS.values() if row.status < 429 or row.status == 431)
    assert all(PROBLEMS[reason].waiting_helps for reason in ("saturated", "quota_exceeded", "no_ready_pool"))
    assert not PROBLEMS["policy_denied"].waiting_helps
    assert not PROBLEMS["deadline_unmeetable"].waiting_helps


def test_an_unknown_reason_is_an_internal_error():
    """A forgotten row shows as 500, never as success or a crash."""
    assert problem("no such reason").status == 500


def test_every_grpc_status_exists():
    """The names are gRPC's own."""
    assert all(row.grpc in grpc.StatusCode.__members__ for row in PROBLEMS.values())


@pytest.mark.parametrize(
    ("reason", "dispatched", "told"),
    [
        ("queue_full", False, "saturated"),
        ("draining", False, "draining"),
        ("model_not_found", False, "no_ready_pool"),
        ("expired", False, "deadline_unmeetable"),
        ("expired", True, "backend_timeout"),
        ("too_large", False, "too_large"),
        ("malformed", True, "malformed"),
        ("backend_lost", True, "backend_lost"),
        ("cancelled", False, "backend_failed"),
        ("client_gone", True, "backend_failed"),
        ("words of a newer replica", True, "backend_failed"),
    ],
)
def test_a_replicas_reason_becomes_one_that_clients_know(reason, dispatched, told):
    """Whatever a replica says, the client gets a reason of the table."""
    assert client_reason(reason, dispatched) == told
    assert told in PROBLEMS


def test_the_body_has_the_protocols_error_and_our_reason():
    """Clients of the protocol read `error`; ours read `reason` and `request_id` too."""
    body = problem_body("saturated", "all full: \"a\" & 'ü'", "r-1")
    assert orjson.loads(body) == {"error": "all full: \"a\" & 'ü'", "reason": "saturated", "request_id": "r-1"}


def test_a_detail_that_is_not_text_still_gives_a_body():
    """Details may quote what a client sent, decoded with surrogates."""
    assert orjson.loads(problem_body("malformed", "bad \udcff", "r"))["error"] == "bad ?"


@pytest.mark.parametrize(
    ("wait_s", "header"),
    [(0.0, "1"), (-3.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (59.5, "60"), (math.inf, "86400")],
)
def test_retry_after_is_whole_seconds_and_at_least_one(wait_s, header):
    """Rounded up, so that a client which obeys does not come too early."""
    assert retry_after(wait_s) == header
