"""What the core knows of one request. Values only; tensors stay outside."""

from __future__ import annotations

import msgspec

from router.core.eligibility import EligibilityRow
from router.core.filters.narrowing import Narrowing


class RequestFacts(msgspec.Struct, gc=False):
    """One request, as the decision sees it. Times are seconds on the router's monotonic clock."""

    request_id: str
    tenant: str
    model: str
    version: str
    """Empty: any version that a pool serves."""
    rows: int
    nbytes: int
    arrived_s: float
    deadline_s: float
    """Moment at which an answer stops being useful."""
    target_s: float
    """Latency target, relative to arrival. Soft: scored, never a reason to reject."""
    priority: int
    """0 interactive, 1 standard, 2 batch."""
    eligible: EligibilityRow
    """Row of the policy table for this tenant, model and request class."""
    tried: tuple[str, ...] = ()
    """Pools on which an attempt of this request has already failed."""
    tried_replicas: tuple[str, ...] = ()
    """Replicas on which an attempt has already failed; another replica of the same pool may still be tried."""
    attempts: int = 0
    """Dispatches so far, the first one included."""
    only: Narrowing | None = None
    """What it forbids itself beyond policy."""
