"""What the headers of one inference request say: who, which model, how long, how soon. Values only."""

from __future__ import annotations

import msgspec

from models.spec import ModelSpec, TensorSpec
from router.core.durations import parse_duration_s
from router.core.errors import RequestError
from router.core.facts import TenantFacts
from router.core.filters.narrowing import Narrowing
from router.policy import variables
from router.protocol.codec import Codec, InferParameters
from router.protocol.oip import JSON

MAX_HOPS = 4
"""Routers that a request may have passed: more, and they forward it in a circle."""
MAX_NAMES = 32
PRIORITIES = {name: rank for rank, name in enumerate(variables.PRIORITIES)}


class Head(msgspec.Struct):
    """One request line and the headers the router reads; an absent header is ""."""

    model: str
    version: str
    request_id: str
    credential: str = ""
    """The API key itself, without its scheme. Never logged."""
    timeout: str = ""
    latency_target: str = ""
    priority: str = ""
    codec: Codec = JSON
    """How the body is encoded, and the answer is to be."""
    terms: Terms | None = None
    """What was made of these headers, for the next request of the connection that has the same; see Terms."""
    only_accelerator: str | None = None
    only_region: str | None = None
    only_emulated: str | None = None
    hops: str = ""

    def renewed(self, request_id: str) -> Head:
        """The head of another request with the same headers."""
        return Head(
            self.model, self.version, request_id, self.credential, self.timeout, self.latency_target, self.priority,
            self.codec, self.terms, self.only_accelerator, self.only_region, self.only_emulated, self.hops,
        )  # fmt: skip


class Terms(msgspec.Struct, frozen=True):
    """Who asks for what, how soon: all that follows from a head under one configuration. Holds no key."""

    generation: object
    """Identity of the configuration it was worked out under; under any other it counts for nothing."""
    tenant: TenantFacts
    spec: ModelSpec
    accepted: tuple[tuple[TensorSpec, ...], ...]
    times: RequestTimes
    only: Narrowing | None
    hops: int
    """Routers that the request has passed."""


class ModelDefaults(msgspec.Struct, frozen=True):
    """What a model's configuration says where the request does not."""

    target_s: float
    deadline_s: float
    max_deadline_s: float


class RequestTimes(msgspec.Struct, frozen=True):
    """Time left for the request, its soft target (both relative to arrival, seconds) and its priority."""

    timeout_s: float
    target_s: float
    priority: int

    @classmethod
    def read(cls, head: Head, defaults: ModelDefaults, ceiling: int) -> RequestTimes:
        """From headers, else the model's defaults; the priority never rises above the tenant's ceiling."""
        timeout_s = _duration(head.timeout, "x-pointsman-timeout") if head.timeout else defaults.deadline_s
        target_s = (
            _duration(head.latency_target, "x-pointsman-latency-target") if head.latency_target else defaults.target_s
        )
        priority = ceiling
        if head.priority:
            asked = PRIORITIES.get(head.priority)
            if asked is None:
                raise RequestError("malformed", f"x-pointsman-priority: one of {', '.join(PRIORITIES)}")
            priority = max(asked, ceiling)
        return cls(min(timeout_s, defaults.max_deadline_s), target_s, priority)

    def narrowed(self, parameters: InferParameters) -> RequestTimes:
        """Bounded further by the protocol's own `timeout` (microseconds, 0: none) and `priority` (0: unsaid)."""
        if not parameters.timeout_us and not parameters.priority:
            return self
        timeout_s, priority = self.timeout_s, self.priority
        if parameters.timeout_us:
            timeout_s = min(timeout_s, parameters.timeout_us * 1e-6)
        if parameters.priority:
            # Triton's convention: 1 is the highest.
            priority = max(priority, min(parameters.priority - 1, max(PRIORITIES.values())))
        return RequestTimes(timeout_s, self.target_s, priority)


def narrowing(head: Head) -> Narrowing | None:
    """What the request forbids itself; None where it says nothing. Raises RequestError."""
    accelerator, region, emulated = head.only_accelerator, head.only_region, head.only_emulated
    if accelerator is None and region is None and emulated is None:
        return None
    if emulated not in {None, "true", "false"}:
        raise RequestError("malformed", "x-pointsman-only-emulated: true or false")
    return Narrowing(
        _names(accelerator, "x-pointsman-only-accelerator"),
        _names(region, "x-pointsman-only-region"),
        None if emulated is None else emulated == "true",
    )


def hops(head: Head) -> int:
    """Routers that the request has passed. Raises RequestError for too many."""
    if not head.hops:
        return 0
    if not (head.hops.isascii() and head.hops.isdigit() and len(head.hops) <= 4):
        raise RequestError("malformed", "x-pointsman-hops: a whole number")
    count = int(head.hops)
    if count > MAX_HOPS:
        words = f"the request has passed {count} routers, at most {MAX_HOPS} may be: do upstreams lead in a circle?"
        raise RequestError("too_many_hops", words)
    return count


def _names(text: str | None, header: str) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(names) > MAX_NAMES:
        raise RequestError("malformed", f"{header}: up to {MAX_NAMES} names, with commas between them")
    return names


def _duration(text: str, name: str) -> float:
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise RequestError("malformed", f"{name}: {error}") from error
