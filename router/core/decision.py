"""The decision and its reasons, by value: logs, metrics, explain and traces only read it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """Why a pool was not chosen. The text is stable: it is a metric label and part of explain."""

    POLICY = "policy"
    NARROWED = "narrowed"
    """Outside of what the request itself allows; see filters/narrowing.py."""
    TRIED = "tried"
    MODEL = "model_not_served"
    VERSION = "version_not_served"
    NOT_READY = "not_ready"
    DRAINING = "draining"
    SATURATED = "saturated"
    TOO_MANY_ROWS = "too_many_rows"
    DEADLINE_LOADED = "deadline_while_loaded"
    """An idle pool of this kind would meet the deadline; waiting helps."""
    DEADLINE_NEVER = "deadline_even_idle"
    """Not even an idle pool would meet the deadline; waiting does not help."""
    LOWER_SCORE = "lower_score"


class Rejected(msgspec.Struct, gc=False):
    """A pool not chosen. `detail` is for humans; `predicted_s` is the predicted completion where known, else 0."""

    pool: str
    reason: Reason
    detail: str = ""
    predicted_s: float = 0.0


class Scored(msgspec.Struct, gc=False):
    """A pool that passed every filter. `score` is the weighted sum of `parts`, each in [0, 1], plus preference."""

    pool: str
    score: float
    predicted_s: float
    """Predicted time from now to the answer, in seconds."""
    parts: dict[str, float]
    cost: float


class Decision(msgspec.Struct, gc=False):
    """`pool` is "" where no pool may serve; then `rejected` holds a reason for each pool of the fleet."""

    pool: str
    predicted_s: float
    scores: list[Scored]
    rejected: list[Rejected]
    taken_at_s: float
    policy_version: str
