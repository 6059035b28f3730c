"""What can end a request without an answer.

RouterError(reason, dispatched, retry_after_s)
├── RequestError    the client must change something
├── CapacityError   nothing ran; waiting may help
└── UpstreamError   it was sent to a replica and failed there

`reason` is a key of router/protocol/problem.py, the only table from reason to HTTP status.
"""

from __future__ import annotations


class RouterError(Exception):
    """A request that ends without an answer. `dispatched`: a replica may have run it."""

    dispatched = False

    def __init__(self, reason: str, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


class RequestError(RouterError):
    """malformed, unauthenticated, policy_denied, model_not_found, too_large, shape_mismatch."""


class CapacityError(RouterError):
    """saturated, quota_exceeded, no_ready_pool, deadline_unmeetable."""


class UpstreamError(RouterError):
    """backend_failed, backend_timeout, backend_lost."""

    dispatched = True
