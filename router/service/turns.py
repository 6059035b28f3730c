"""Large JSON bodies hold the loop while they are parsed: they take turns, and no more than their share of it.

Knows no clock and no request: the time is asked of it, and what a turn does is the caller's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from router.service.ports import Clock, Timers

SHARE = 0.2
"""Of the loop's time, while others are being served."""
_GRAIN_S = 1e-6
"""A timer may come that much early."""
_BREATH_S = 0.001
"""Between two turns whatever happens, so that the loop reads its sockets and counts who came while it was held."""


class Turns:
    """One at a time; after one that took t the next waits 4 t more, unless nobody else has asked for anything since."""

    def __init__(self, clock: Clock, timers: Timers, others: Callable[[], int], share: float = SHARE) -> None:
        """`others` counts what the loop does for everybody else; a count that stands still says that nobody waits."""
        self._clock = clock
        self._timers = timers
        self._others = others
        self._rest = 1.0 / share - 1.0
        self._waiting: deque[Callable[[], None]] = deque()
        self._free_s = 0.0
        """When the next may have its turn whoever waits."""
        self._count = -1
        """Of the others, at the end of the last turn."""
        self._timed = False

    def take(self, turn: Callable[[], None]) -> None:
        """Run `turn` now or in its turn. It must not raise."""
        if not self._waiting and not self._timed and self._may():
            self._run(turn)
        else:
            self._waiting.append(turn)
            self._again()

    def _may(self) -> bool:
        return self._clock.now_s() >= self._free_s - _GRAIN_S or self._others() == self._count

    def _run(self, turn: Callable[[], None]) -> None:
        started_s = self._clock.now_s()
        turn()
        now_s = self._clock.now_s()
        self._free_s = now_s + (now_s - started_s) * self._rest
        self._count = self._others()
        self._again()

    def _again(self, delay_s: float = _BREATH_S) -> None:
        if not self._timed:
            self._timed = True
            self._timers.call_later(delay_s, self._next)

    def _next(self) -> None:
        """Whoever came while the last turn held the loop has been counted by now."""
        self._timed = False
        if self._waiting:
            if self._may():
                self._run(self._waiting.popleft())
            else:
                self._again(max(_BREATH_S, self._free_s - self._clock.now_s()))
