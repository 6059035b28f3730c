"""Eligibility: policy's verdict on a pool. Fail closed: no verdict is no.

Not a Filter that a profile lists: `decide` asks here before anything else, so that no profile can leave it out.
"""

from __future__ import annotations

from router.core.eligibility import Verdict
from router.core.request import RequestFacts


def eligible(request: RequestFacts, pool: str) -> Verdict | None:
    """The verdict that allows the pool; None where policy denies it or has not spoken."""
    verdict = request.eligible.verdicts.get(pool)
    return verdict if verdict is not None and verdict.allowed else None
