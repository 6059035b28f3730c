"""Service time of one model on one pool: the curve granted at warm-up, corrected by what batches really took.

The correction is one factor for the whole curve: the mean of observed / expected, where a report's weight fades with
exp(-age / forget_s). The granted curve counts like `prior_weight` reports that never fade, so a pool that is silent
returns to it in seconds, and is tried again.
"""

from __future__ import annotations

from math import exp

from router.core.predict import Curve, dense, service_s

_BOUND = 20.0
"""The correction stays within [1/20, 20], and so does each single report."""
_STEP = 0.02
"""The curve is rebuilt only once the correction has moved by 2 %: less changes no decision."""


class Estimator:
    """Corrected curve of one (pool, model). Seconds throughout; a clock that steps back counts as standing still."""

    __slots__ = ("_base", "_fade_s", "_prior", "_seen_s", "_sum", "_weight", "curve", "ratio")

    def __init__(self, curve: Curve, max_rows: int, *, forget_s: float = 2.0, prior_weight: float = 0.5) -> None:
        self._base = dense(curve, max_rows)
        self._fade_s = forget_s
        self._prior = prior_weight
        self._seen_s = 0.0
        self._sum = 0.0
        self._weight = 0.0
        self.curve = self._base
        """The corrected curve. A new tuple when it changes, so a snapshot may keep it."""
        self.ratio = 1.0
        """The correction that `curve` carries."""

    def observe(self, batch_rows: int, run_s: float, weight: float, now_s: float) -> bool:
        """Take in a batch of `batch_rows` that ran for `run_s`. True if `curve` changed.

        `weight` is the reporter's share of the batch (its rows / batch_rows), so that a batch told of by each of its
        requests counts once. Sizes and times that are not positive are ignored.
        """
        expected_s = service_s(self._base, batch_rows) if self._base else 0.0
        if batch_rows < 1 or run_s <= 0.0 or expected_s <= 0.0:
            return False
        self._fade(now_s)
        self._sum += weight * min(_BOUND, max(1.0 / _BOUND, run_s / expected_s))
        self._weight += weight
        return self._apply()

    def refresh(self, now_s: float) -> bool:
        """Forget up to now. True if `curve` changed."""
        self._fade(now_s)
        return self._apply()

    def _fade(self, now_s: float) -> None:
        age_s = now_s - self._seen_s
        if age_s > 0.0:
            keep = exp(-age_s / self._fade_s)
            self._sum *= keep
            self._weight *= keep
            self._seen_s = now_s

    def _apply(self) -> bool:
        ratio = (self._sum + self._prior) / (self._weight + self._prior)
        if abs(ratio - self.ratio) <= _STEP * self.ratio:
            return False
        self.ratio = ratio
        self.curve = tuple((rows, seconds * ratio) for rows, seconds in self._base)
        return True
