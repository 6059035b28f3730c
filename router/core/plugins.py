"""What a filter, a scorer and a picker are, in numbers. Contracts only; each plugin has a file of its own.

A plugin is pure and never raises on a value that the core can hold. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import msgspec

from router.core.decision import Reason, Scored
from router.core.fleet import PoolView, ServingView
from router.core.request import RequestFacts

if TYPE_CHECKING:
    import random

UNSERVED = ServingView(version="", max_rows=0, curve=())
"""Stands for a model that a pool does not serve, so that no plugin meets None."""


class Candidate(msgspec.Struct, gc=False):
    """An eligible pool while it is looked at. Plugins read it and never change it."""

    pool: PoolView
    serving: ServingView
    """The request's model on this pool, or UNSERVED."""
    predicted_s: float
    """Predicted time from now to the answer; infinite where nothing can be predicted."""
    prefer: float
    """What policy's `prefer` rules add to the score."""


class Filter(Protocol):
    """Keeps a pool (None) or says why not. Runs only on pools that policy allows."""

    def __call__(self, request: RequestFacts, candidate: Candidate, now_s: float) -> Reason | None: ...


class Scorer(Protocol):
    """One score in [0, 1] for each candidate, in their order; 1.0 is "good enough": more of it gains nothing."""

    name: ClassVar[str]

    def score(self, request: RequestFacts, candidates: Sequence[Candidate], now_s: float) -> list[float]:
        """Scores in the order of `candidates`."""
        ...


class Picker(Protocol):
    """Index of the chosen one of `scores`, which holds at least one, in config order."""

    def __call__(self, scores: Sequence[Scored], rng: random.Random) -> int: ...
