"""Eligibility as data: the verdict of policy on every pool, worked out before the request arrives."""

from __future__ import annotations

import msgspec


class Verdict(msgspec.Struct, frozen=True):
    """Policy's answer for one (tenant, model, request class, pool). `rule` names the rule that decided."""

    allowed: bool
    rule: str
    reason: str
    prefer: float = 0.0
    """Sum of the weights of `prefer` rules that hold, added to the score."""


class EligibilityRow(msgspec.Struct, frozen=True):
    """Verdicts by pool name. A pool that is absent is not eligible: fail closed."""

    version: str
    """Version of the policy that filled the row."""
    verdicts: dict[str, Verdict]
    visible: bool = True
    """Whether some request class of the tenant may use some pool that serves the model; else the model is unknown to
    the tenant, and no answer may differ from that of a model that does not exist."""


NO_VERDICT = Verdict(allowed=False, rule="", reason="no policy verdict for this pool")
