"""Large JSON bodies take turns: virtual time, work that takes as long as it is told to."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

import pytest

from router.service.turns import Turns


class World:
    """A clock that stands still but for work and waiting; `others` counts what is done for everybody else."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.others = 0
        self.began_s: list[float] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self.turns = Turns(self, self, lambda: self.others)

    def now_s(self) -> float:
        """See Clock."""
        return self.time_s

    def unix_s(self) -> float:
        """See Clock."""
        return self.time_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
        """See Timers; never cancelled here."""
        heapq.heappush(self._timers, (self.time_s + delay_s, next(self._number), callback))
        return lambda: None

    def ask(self, work_s: float) -> None:
        """One large body comes."""

        def work() -> None:
            self.began_s.append(self.time_s)
            self.time_s += work_s

        self.turns.take(work)

    def until(self, end_s: float, others_every_s: float = 0.0) -> None:
        """Let time pass; others ask for something now and then, and are seen before any timer that is due."""
        other_s = self.time_s + others_every_s if others_every_s else math.inf
        while True:
            timer_s = self._timers[0][0] if self._timers else math.inf
            self.time_s = max(self.time_s, min(timer_s, other_s, end_s))
            if self.time_s >= end_s:
                return
            if other_s <= self.time_s:
                self.others += 1
                other_s = self.time_s + others_every_s
            else:
                heapq.heappop(self._timers)[2]()


@pytest.fixture
def world():
    """A new one."""
    return World()


def test_the_first_runs_at_once(world):
    """Whoever else is there."""
    world.others = 5
    world.ask(0.1)
    assert world.began_s == [0.0]


def test_alone_they_run_one_behind_the_other(world):
    """Nobody waits for the loop but they; it turns once between two."""
    for _ in range(4):
        world.ask(0.1)
    assert world.began_s == [0.0]
    world.until(1.0)
    assert world.began_s == pytest.approx([0.0, 0.1, 0.2, 0.3], abs=0.004)


def test_beside_others_they_get_a_fifth(world):
    """After t the next waits 4 t."""
    for _ in range(4):
        world.ask(0.1)
        world.others += 1
    world.until(10.0, others_every_s=0.01)
    assert world.began_s == pytest.approx([0.0, 0.5, 1.0, 1.5], abs=0.02)


def test_the_share_holds_for_ever(world):
    """100 s of bodies offered at once, of different sizes, others all the time: a fifth of the time goes to them."""
    for number in range(1000):
        world.ask(0.05 + 0.1 * (number % 2))
    world.until(100.0, others_every_s=0.005)
    share = sum(0.05 + 0.1 * (number % 2) for number in range(len(world.began_s))) / 100.0
    assert share == pytest.approx(0.2, abs=0.01)


def test_nobody_overtakes(world):
    """One that comes when the time is up still waits behind those that wait."""
    order = []
    world.ask(0.1)
    world.others += 1
    world.turns.take(lambda: order.append("first"))
    world.time_s = 9.0  # the timer is late
    world.turns.take(lambda: order.append("second"))
    world.until(20.0)
    assert order == ["first", "second"]


def test_a_pause_in_which_nobody_asked_is_not_waited_for(world):
    """The others have gone."""
    world.ask(1.0)
    world.until(2.0)
    world.ask(1.0)
    assert world.began_s == [0.0, 1.0 + 1.0]


def test_beside_others_the_next_waits_even_if_none_was_waiting(world):
    """It is the loop's time that counts, not the queue."""
    world.ask(1.0)
    world.others += 1
    world.until(2.0)
    world.ask(1.0)
    assert world.began_s == [0.0]
    world.until(10.0, others_every_s=0.1)
    assert world.began_s == pytest.approx([0.0, 5.0], abs=0.11)
