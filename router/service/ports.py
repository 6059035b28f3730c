"""What the request handler needs from the outside, as protocols. deployments/ and tests implement them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from router.core.record import RequestRecord
from router.protocol.link import Answer, Item
from router.protocol.metadata import ModelTotals

OnAnswer = Callable[[Answer], None]
"""Called exactly once for each accepted send; a lost stream gives an Answer with reason "backend_lost"."""


class Clock(Protocol):
    """Seconds. `now_s` never goes back; `unix_s` is wall time."""

    def now_s(self) -> float:
        """Monotonic seconds."""
        ...

    def unix_s(self) -> float:
        """Unix time in seconds."""
        ...


class Ticket(Protocol):
    """One accepted send."""

    @property
    def replica(self) -> str:
        """The replica that was given the item, "" while it waits for one."""
        ...

    @property
    def waited_s(self) -> float:
        """How long the item waited before it was sent, in seconds."""
        ...

    def cancel(self) -> None:
        """The answer is of no use any more. `on_answer` will not be called after this."""


class Dispatcher(Protocol):
    """Carries items to pools."""

    def send(
        self, pool: str, item: Item, nbytes: int, deadline_s: float, on_answer: OnAnswer, without: tuple[str, ...] = ()
    ) -> Ticket | None:
        """Queue or send one item, to none of the replicas in `without`.

        None: the pool's queue is full, or it has no replica to send to; nothing was taken.
        """
        ...


class NoDispatcher:
    """Stands in until the streams are there: takes nothing, so requests end as unserved, not as errors."""

    def send(
        self, pool: str, item: Item, nbytes: int, deadline_s: float, on_answer: OnAnswer, without: tuple[str, ...] = ()
    ) -> Ticket | None:
        """Takes nothing."""
        return None


class Totals(Protocol):
    """What the models of this node have done."""

    async def by_model(self) -> Mapping[str, ModelTotals]:
        """By model name, about a second old at most. Raises OSError."""
        ...


class NoTotals:
    """Stands in where nothing is counted."""

    async def by_model(self) -> Mapping[str, ModelTotals]:
        """Nothing."""
        return {}


class Timers(Protocol):
    """One-shot timers."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Run `callback` after `delay_s`; returns the function that cancels it."""
        ...


RecordHook = Callable[[RequestRecord], None]
"""Receives the record of every ended request. Must not block or raise."""
