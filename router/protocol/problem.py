"""The only table from reason to HTTP and gRPC status, and the error body built from it.

Owns what a reason means to a client. Never decides that something is an error, never writes a header by itself.
"""

from __future__ import annotations

import math

import msgspec
import orjson

LONGEST_RETRY_AFTER_S = 86_400


class Problem(msgspec.Struct, frozen=True):
    """What one reason means to a client. `waiting_helps`: the same request, unchanged, may succeed later."""

    status: int
    grpc: str
    """Name of the gRPC status code."""
    title: str
    waiting_helps: bool = False


PROBLEMS: dict[str, Problem] = {
    # The client must change something.
    "malformed": Problem(400, "INVALID_ARGUMENT", "The request is malformed"),
    "unauthenticated": Problem(401, "UNAUTHENTICATED", "No valid credential"),
    "policy_denied": Problem(403, "PERMISSION_DENIED", "No pool may serve this"),
    "model_not_found": Problem(404, "NOT_FOUND", "Unknown model"),
    "not_found": Problem(404, "NOT_FOUND", "Nothing at this path"),
    "method_not_allowed": Problem(405, "UNIMPLEMENTED", "Method not allowed"),
    "request_timeout": Problem(408, "DEADLINE_EXCEEDED", "The request came too slowly"),
    "too_large": Problem(413, "RESOURCE_EXHAUSTED", "The request is too large"),
    "uri_too_long": Problem(414, "INVALID_ARGUMENT", "The request target is too long"),
    "unsupported_media_type": Problem(415, "INVALID_ARGUMENT", "Unsupported media type"),
    "shape_mismatch": Problem(422, "INVALID_ARGUMENT", "The tensors do not fit the model"),
    "too_many_hops": Problem(508, "FAILED_PRECONDITION", "The request goes in circles"),
    "headers_too_large": Problem(431, "RESOURCE_EXHAUSTED", "The headers are too large"),
    # Nothing ran.
    "saturated": Problem(429, "RESOURCE_EXHAUSTED", "All eligible pools are full", waiting_helps=True),
    "quota_exceeded": Problem(429, "RESOURCE_EXHAUSTED", "The tenant's quota is spent", waiting_helps=True),
    "too_many_connections": Problem(503, "UNAVAILABLE", "The router has no connection to spare", waiting_helps=True),
    "no_ready_pool": Problem(503, "UNAVAILABLE", "No eligible pool is ready", waiting_helps=True),
    "draining": Problem(503, "UNAVAILABLE", "The server is leaving", waiting_helps=True),
    "deadline_unmeetable": Problem(504, "DEADLINE_EXCEEDED", "The deadline could not be met"),
    # It was sent to a replica and failed there.
    "backend_failed": Problem(502, "INTERNAL", "The model failed"),
    "wrong_accelerator": Problem(502, "INTERNAL", "The upstream answered from other hardware than it is declared as"),
    "backend_lost": Problem(502, "UNAVAILABLE", "The replica was lost", waiting_helps=True),
    "backend_timeout": Problem(504, "DEADLINE_EXCEEDED", "The replica did not answer in time", waiting_helps=True),
    # Ours.
    "internal": Problem(500, "INTERNAL", "Internal error"),
    "client_gone": Problem(499, "CANCELLED", "The client hung up before the answer"),
}
"""`client_gone` is counted and logged; nobody is left to send it to."""

_ANSWER_REASONS = {
    "queue_full": "saturated",
    "model_not_found": "no_ready_pool",
    "cancelled": "backend_failed",
    "client_gone": "backend_failed",
}
"""Words of replicas that clients know by another word: a replica without the model does not make the model unknown.

Whoever reads this has not hung up: an item that was cancelled has no owner, so the replica dropped one uncalled-for.
"""


def problem(reason: str) -> Problem:
    """The row of `reason`; an unknown reason is an internal error, never a success."""
    return PROBLEMS.get(reason, PROBLEMS["internal"])


def client_reason(reason: str, dispatched: bool) -> str:
    """The reason a client is told for a replica's Answer, when no other replica is left to try.

    `expired` is told apart by `dispatched`: in a queue it is overload (deadline_unmeetable) and must not count against
    the replica; once the model may have run it is backend_timeout. A word this table does not know is backend_failed.
    """
    if reason == "expired":
        return "backend_timeout" if dispatched else "deadline_unmeetable"
    known = _ANSWER_REASONS.get(reason, reason)
    return known if known in PROBLEMS else "backend_failed"


def problem_body(reason: str, detail: str, request_id: str) -> bytes:
    """JSON error body: `error` as the Open Inference Protocol has it, then our reason and the request's id.

    `detail` may quote what a client sent, so it is made safe for UTF-8 here.
    """
    text = detail.encode(errors="replace").decode()
    return orjson.dumps({"error": text, "reason": reason, "request_id": request_id})


def retry_after(wait_s: float) -> str:
    """Value of a Retry-After header: whole seconds, rounded up, from 1 to a day."""
    return str(max(1, math.ceil(min(wait_s, LONGEST_RETRY_AFTER_S))))
