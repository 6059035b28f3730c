"""Replies as values: what a finished exchange says to its client. Header names are lower case."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from router.core.errors import RouterError
from router.protocol.codec import Body, Encoded
from router.protocol.link import Answer
from router.protocol.problem import problem, problem_body, retry_after


class Failure(msgspec.Struct, frozen=True, gc=False):
    """What ended a request, as words. Not the exception: its traceback leads back to everything that waits for it."""

    reason: str
    detail: str
    retry_after_s: float | None


class Reply(msgspec.Struct, gc=False):
    """Status, header lines (each ended by CRLF, content-length not among them), body."""

    status: int
    head: bytes
    body: bytes
    more: Sequence[Body] = ()
    """Parts of the body after the first."""
    error: Failure | None = None
    """Of a request that has no answer."""

    def headers(self) -> list[tuple[str, str]]:
        """The header lines taken apart."""
        lines = (line.partition(b": ") for line in self.head.split(b"\r\n") if line)
        return [(name.decode(), value.decode()) for name, _, value in lines]


class Stages(msgspec.Struct, gc=False):
    """Durations of one request in seconds, as far as it came."""

    parse_s: float = 0.0
    decide_s: float = 0.0
    queue_s: float = 0.0
    """In router and replica."""


class Badge(msgspec.Struct, frozen=True):
    """What replies and records say of a pool."""

    accelerator: str
    emulated: bool
    lines: bytes
    """Header lines that are the same for every answer of the pool."""


NO_POOL = Badge("", emulated=False, lines=b"")


def badge(pool: str, accelerator: str, emulated: bool, reveal: bool = True) -> Badge:
    """The badge of one pool. Names are the configuration's, which admits no control characters.

    Without `reveal` replies do not say which pool and accelerator class it was; that it is emulated they always say.
    """
    lines = f"x-pointsman-pool: {pool}\r\nx-pointsman-accelerator: {accelerator}\r\n" if reveal else ""
    if emulated:
        lines += "x-pointsman-emulated: true\r\n"
    return Badge(accelerator, emulated, lines.encode())


def answered(request_id: str, pool: Badge, stages: Stages, answer: Answer, total_s: float, body: Encoded) -> Reply:
    """The reply to a request that a pool answered: where it ran and where its time went (Server-Timing, ms)."""
    head = (
        b"%b%bx-request-id: %b\r\nserver-timing: "
        b"parse;dur=%.3f, decide;dur=%.3f, queue;dur=%.3f, batch;dur=%.3f, run;dur=%.3f, total;dur=%.3f\r\n"
    ) % (
        body.lines,
        pool.lines,
        request_id.encode(),
        stages.parse_s * 1e3,
        stages.decide_s * 1e3,
        stages.queue_s * 1e3,
        answer.batch_us * 1e-3,
        answer.run_us * 1e-3,
        total_s * 1e3,
    )
    return Reply(200, head, body.body, body.more)


def failed(error: RouterError, request_id: str) -> Reply:
    """The reply to a request that ends without an answer."""
    head = f"content-type: application/json\r\nx-request-id: {request_id}\r\n"
    if error.retry_after_s is not None:
        head += f"retry-after: {retry_after(error.retry_after_s)}\r\n"
    if error.reason == "unauthenticated":
        head += "www-authenticate: Bearer\r\n"
    body = problem_body(error.reason, error.detail, request_id)
    failure = Failure(error.reason, error.detail, error.retry_after_s)
    return Reply(problem(error.reason).status, head.encode(), body, (), failure)
