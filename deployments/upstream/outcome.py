"""What an upstream's answer, or its absence, means: for the item, and for whether the upstream may be sent more."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum

import msgspec

from deployments.lane import Result
from deployments.upstream.client import Reply, Unreachable
from router.protocol.upstream_facts import WORDS

_WORD = re.compile(r"[a-z_]{1,40}\Z")
_CLIENT_FAULTS = {400: "malformed", 413: "too_large", 415: "malformed", 422: "malformed"}
_NOT_THERE = {
    401: "it does not accept the credential (401)",
    404: "it does not have the model (404)",
}
_NOT_THIS_ONE = {
    403: "it forbids the request (403)",
    431: "its headers are too large for it (431)",
    508: "the request would go in circles (508)",
}
"""What a client may bring about by its headers: whether it holds for all is a probe's to find out."""


_AWAY = ("no_ready_pool", "draining")
"""Words of a Pointsman for a 503 that is not for being full."""
MAX_WORD_BYTES = 64 * 1024
"""Of a longer body the reason is not looked for."""


class Verdict(Enum):
    """What an outcome says of the upstream."""

    ANSWERED = "answered"
    HEARD = "heard"
    """It lives; the request was not to its taking."""
    FAILED = "failed"
    REFUSED = "refused"
    LEFT = "left"
    """Nothing: cancelled, or out of time."""


class Outcome(msgspec.Struct):
    """One request to the upstream, ended."""

    result: Result
    verdict: Verdict
    why: str = ""
    """Of FAILED and REFUSED; of HEARD where a probe is to find out more."""
    retry_after_s: float | None = None
    took_s: float = 0.0


def failed(why: str, reason: str = "backend_failed", *, dispatched: bool = True) -> Outcome:
    """It failed for a reason of the upstream's, in words that may quote it: no more than WORDS of them are kept."""
    why = why if len(why) <= WORDS else why[: WORDS - 1] + "…"
    return Outcome(Result(reason, f"the upstream failed: {why}", [], dispatched), Verdict.FAILED, why)


def unreachable(error: Unreachable) -> Outcome:
    """No answer came."""
    return failed(str(error), "backend_lost", dispatched=error.sent)


def out_of_time() -> Outcome:
    """Its budget is spent."""
    return Outcome(Result("expired", "the upstream did not answer in time", []), Verdict.LEFT)


def of_status(reply: Reply) -> Outcome:
    """What an answer that is not 200 means. The upstream's own words are not repeated: they may name its host."""
    status = reply.status
    word = _reason(reply.body)
    said = f"it answers {status}" + (f" ({word})" if word else "")
    if status in _CLIENT_FAULTS:
        detail = f"the server of the pool does not take what the request holds: {said}"
        return Outcome(Result(_CLIENT_FAULTS[status], detail, []), Verdict.HEARD)
    if word == "deadline_unmeetable":
        # It would do with more time; another pool may do with what there is.
        return Outcome(Result("queue_full", f"the upstream is too slow for it: {said}", [], False), Verdict.HEARD)
    if status in (408, 504):
        # How short a budget was is the client's doing; that nothing is answered at all shows as silence.
        return out_of_time()
    if status == 503 and word in _AWAY:
        return failed(said, "backend_lost", dispatched=False)
    if status in (429, 503):
        after_s = _retry_after_s(reply.headers)
        return Outcome(Result("queue_full", f"the upstream is full: {said}", [], False), Verdict.REFUSED, said, after_s)
    if status in _NOT_THERE:
        words = _NOT_THERE[status] + (f": {word}" if word else "")
        return failed(words, "backend_lost", dispatched=False)
    if status in _NOT_THIS_ONE:
        words = _NOT_THIS_ONE[status] + (f": {word}" if word else "")
        return Outcome(Result("backend_lost", words, [], False), Verdict.HEARD, words)
    return failed(said)


def _reason(body: bytes) -> str:
    """The stable word for an error that a Pointsman gives, "" of others."""
    if len(body) > MAX_WORD_BYTES:
        return ""
    try:
        said = json.loads(body).get("reason", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return said if isinstance(said, str) and _WORD.match(said) else ""


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds; a date is passed over."""
    said = headers.get("retry-after", "")
    return float(said) if said.isascii() and said.isdigit() else None
