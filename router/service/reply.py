"""Replies as values: what a finished exchange says to its client. Header names are lower case."""

from __future__ import annotations

import msgspec

from router.core.errors import RouterError
from router.protocol.link import Answer
from router.protocol.problem import problem, problem_body, retry_after

Headers = list[tuple[bytes, bytes]]
_JSON = (b"content-type", b"application/json")


class Reply(msgspec.Struct):
    """Status, headers without content-length, body."""

    status: int
    headers: Headers
    body: bytes


class Stages(msgspec.Struct):
    """Durations of one request in seconds, as far as it came."""

    parse_s: float = 0.0
    decide_s: float = 0.0


def answered(
    request_id: str, pool: str, accelerator: str, emulated: bool, stages: Stages, answer: Answer, total_s: float,
    body: bytes,
) -> Reply:  # fmt: skip
    """The reply to a request that a pool answered: where it ran and where its time went (Server-Timing, ms)."""
    timing = b"parse;dur=%.3f, decide;dur=%.3f, queue;dur=%.3f, batch;dur=%.3f, run;dur=%.3f, total;dur=%.3f" % (
        stages.parse_s * 1e3,
        stages.decide_s * 1e3,
        answer.queue_us * 1e-3,
        answer.batch_us * 1e-3,
        answer.run_us * 1e-3,
        total_s * 1e3,
    )
    headers = [
        _JSON,
        (b"x-request-id", request_id.encode()),
        (b"x-pointsman-pool", pool.encode()),
        (b"x-pointsman-accelerator", accelerator.encode()),
        (b"server-timing", timing),
    ]
    if emulated:
        headers.append((b"x-pointsman-emulated", b"true"))
    return Reply(200, headers, body)


def failed(error: RouterError, request_id: str) -> Reply:
    """The reply to a request that ends without an answer."""
    headers = [_JSON, (b"x-request-id", request_id.encode())]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", retry_after(error.retry_after_s).encode()))
    if error.reason == "unauthenticated":
        headers.append((b"www-authenticate", b"Bearer"))
    return Reply(problem(error.reason).status, headers, problem_body(error.reason, error.detail, request_id))
