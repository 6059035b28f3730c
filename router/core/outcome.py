"""From a decision without a pool to the error that ends the request. Only eligible pools count, and none is named.

A pool that policy does not allow must not show in the answer, neither by its name nor by its state. Of mixed reasons
the one that helps the client soonest wins:

1. 429 saturated            some pool would do after a wait
2. the error of the attempt before, where there was one
3. 503 no_ready_pool        some pool would do once it is back
4. 504 deadline_unmeetable  some pool would do with a later deadline
5. 413 too_large            some pool would do with fewer rows
6. 403 policy_denied        some eligible pool is outside of what the request itself allows
7. 404 model_not_found      no eligible pool serves the model (or the version)
8. 403 policy_denied        no pool is eligible for this request class, but some is for another of the tenant's

A model that the tenant may not use at all is unknown to it: 404, in the words for a model that does not exist.
"""

from __future__ import annotations

from router.core.decision import Decision, Reason, Rejected
from router.core.errors import CapacityError, RequestError, RouterError
from router.core.request import RequestFacts

_WAIT = frozenset({Reason.SATURATED, Reason.DEADLINE_LOADED})
_AWAY = frozenset({Reason.NOT_READY, Reason.DRAINING, Reason.TRIED})
MAX_QUOTED = 128
"""Characters of a client's own words that an error repeats."""


def unknown_model(model: str, version: str = "") -> RequestError:
    """For a model that does not exist, or that the tenant may not know of: in the words of Triton's server."""
    named = f" version {version[:MAX_QUOTED]!r}" if version else ""
    return RequestError("model_not_found", f"Request for unknown model: {model[:MAX_QUOTED]!r}{named} is not found")


def no_pool_error(decision: Decision, request: RequestFacts, last_error: RouterError | None = None) -> RouterError:
    """The error for a decision whose pool is "". `last_error` ended the attempt before, if there was one.

    Returned, not raised. An empty fleet is no_ready_pool.
    """
    eligible = [r for r in decision.rejected if r.reason is not Reason.POLICY]
    reasons = {r.reason for r in eligible}
    left_s = request.deadline_s - decision.taken_at_s
    if reasons & _WAIT:
        wait_s = min(_wait_s(r, left_s) for r in eligible if r.reason in _WAIT)
        return CapacityError("saturated", "every pool that could serve this in time is busy", retry_after_s=wait_s)
    if last_error is not None:
        return last_error
    if reasons & _AWAY or not decision.rejected:
        return CapacityError("no_ready_pool", f"no pool that may serve {request.model!r} is ready")
    if Reason.DEADLINE_NEVER in reasons:
        best_s = min(r.predicted_s for r in eligible if r.reason is Reason.DEADLINE_NEVER)
        words = f"{left_s * 1e3:.3g} ms are left; the best predicted time is {best_s * 1e3:.3g} ms"
        return CapacityError("deadline_unmeetable", words)
    if Reason.TOO_MANY_ROWS in reasons:
        return RequestError("too_large", f"{request.rows} rows are more than any pool takes in one batch")
    if not request.eligible.visible:
        return unknown_model(request.model, request.version)
    if request.only is not None and Reason.NARROWED in reasons:
        words = f"the request keeps itself to {request.only.words()[:MAX_QUOTED]}: no pool that it may use is there"
        return RequestError("policy_denied", words)
    if Reason.VERSION in reasons:
        return RequestError("model_not_found", f"no pool serves version {request.version!r} of {request.model!r}")
    if Reason.MODEL in reasons:
        return RequestError("model_not_found", f"no pool serves a model {request.model!r}")
    return RequestError("policy_denied", f"policy allows no pool for this request (policy {decision.policy_version})")


def _wait_s(rejected: Rejected, left_s: float) -> float:
    """After how long the same request is predicted to fit: what waits drains second by second."""
    if rejected.reason is Reason.DEADLINE_LOADED:
        return rejected.predicted_s - left_s
    return rejected.predicted_s
